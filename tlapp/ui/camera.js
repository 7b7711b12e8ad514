// The body of the function that Gradio calls once for the live view, with `element`, `props` and `server`.
// Sends one picture after the other, the next only when the last is answered: what the camera shows meanwhile is
// never sent. These are plain requests: a queued stream would make clicks elsewhere on the page get lost.

const SIDE = 256; // of the shorter side: what the app keeps of any photo
const find = (selector) => element.querySelector(selector);
const view = find('.tl-live'), video = find('video'), canvas = document.createElement('canvas');
let stream = null;

function stop(sentence = '') {
  stream?.getTracks().forEach((track) => track.stop());
  stream = video.srcObject = null;
  view.dataset.state = 'off';
  find('.rate').textContent = find('.said').textContent = '';
  find('.failed').textContent = sentence;
}

function picture() {
  const scale = Math.min(1, SIDE / Math.min(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/jpeg', 0.85);
}

async function look(mine) {
  const times = [];
  while (stream === mine) {
    if (document.hidden || !view.checkVisibility() || !mine.active) return stop();
    const { html, error } = await server.classify([picture(), props.value ?? '']);
    if (stream !== mine) return;
    if (error) return stop(error);
    find('.said').innerHTML = html; // of the app's making, names escaped
    times.push(performance.now());
    while (times.length > 2 && times[0] < times.at(-1) - 2000) times.shift();
    const rate = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
    if (times.length > 1) find('.rate').textContent = `${rate < 3 ? rate.toFixed(1) : Math.round(rate)} frames/s`;
    await new Promise(requestAnimationFrame); // a picture that was answered is drawn before the next is sent
  }
}

find('.start').addEventListener('click', async () => {
  if (view.dataset.state !== 'off') return;
  if (!navigator.mediaDevices) return stop('The browser gives the camera to pages of this machine or of https alone.');
  view.dataset.state = 'on';
  find('.failed').textContent = '';
  try {
    const mine = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
    if (view.dataset.state === 'off') return mine.getTracks().forEach((track) => track.stop());
    stream = video.srcObject = mine;
    await video.play();
    await look(mine);
  } catch (error) {
    const refused = ['NotAllowedError', 'NotFoundError', 'NotReadableError'].includes(error?.name);
    stop(refused
      ? 'The browser gives no camera to this page. Allow it beside the address, see that no other program has it, and start again.'
      : 'The connection to the app was lost. See that it still runs, then start again.');
  }
});

find('.stop').addEventListener('click', () => stop());
