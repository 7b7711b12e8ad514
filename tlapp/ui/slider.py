"""What the number box of a slider does while a number is typed. Knows nothing of what is set."""

TYPING = """() => {
  const range = (box) => box.type === 'number' ? box.closest('.block')?.querySelector('input[type=range]') : null;
  const isOff = ({value, validity: v}) => value === '' || v.rangeUnderflow || v.rangeOverflow || v.badInput;
  document.addEventListener('input', (event) => {
    if (range(event.target) && isOff(event.target)) event.stopImmediatePropagation();
  }, true);
  document.addEventListener('change', (event) => {
    const box = event.target, stands = range(box)?.value;
    if (stands === undefined || !isOff(box)) return;
    box.value = box.value === '' ? stands : Math.min(box.max, Math.max(box.min, box.value));
    box.dispatchEvent(new Event('input', {bubbles: true}));
  }, true);
}"""
"""Listens once for the whole page. Who types 85 types 8 first, which Gradio sends at once and the server refuses where
the slider begins at 80, and the 85 behind it is lost: what is out of range, or empty, waits until the box is left, when
the nearest number in range, or the one of before, takes its place.
"""
