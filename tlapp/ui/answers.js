// The body of the function that Gradio calls once for the answers, with `element` and `trigger`.
// Sorts the table by the heading that is pressed, tells which class a person picks as the right one, and brings new
// answers into view.

const collator = new Intl.Collator(undefined, { numeric: true });
const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;

function sort(head) {
  const down = head.getAttribute('aria-sort') === 'ascending', column = head.cellIndex;
  const body = head.closest('table').tBodies[0], sign = down ? -1 : 1;
  const keyed = [...body.rows].map((row) => [key(row, column), row]);
  const isNumber = keyed.every(([text]) => text !== '' && !Number.isNaN(Number(text)));
  keyed.sort(([a], [b]) => sign * (isNumber ? a - b : collator.compare(a, b)));
  for (const other of head.parentNode.querySelectorAll('[aria-sort]')) other.setAttribute('aria-sort', 'none');
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  body.append(...keyed.map(([, row]) => row));
  observer.takeRecords(); // no new answers
}

function open(button) {
  const list = element.querySelector('template').content.firstElementChild.cloneNode(true);
  list.dataset.row = button.closest('tr').dataset.row;
  list.setAttribute('aria-label', button.getAttribute('aria-label'));
  button.replaceWith(list);
  observer.takeRecords();
  list.focus();
}

element.addEventListener('click', (event) => {
  const head = event.target.closest('th[aria-sort] button'), wrong = event.target.closest('.tl-wrong');
  if (head) sort(head.parentNode);
  else if (wrong) open(wrong);
  else if (event.target.closest('[data-why]')) trigger('select', { pick: event.target.closest('[data-why]').dataset.why });
});

// Gradio changes what stands there into the new answer, whose height is known once its photo is.
const observer = new MutationObserver(async () => {
  const found = element.querySelector('.tl-answer, .tl-many');
  found?.scrollTo(0, 0);
  await found?.querySelector('img')?.decode().catch(() => {});
  found?.scrollIntoView({ block: 'nearest' });
});
observer.observe(element, { childList: true, subtree: true, characterData: true, attributeFilter: ['src'] });

element.addEventListener('change', (event) => {
  const list = event.target.closest('.tl-right');
  if (list) trigger('pick', { row: Number(list.dataset.row), label: Number(list.value) });
});
