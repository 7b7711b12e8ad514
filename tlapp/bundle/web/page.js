// The page: photos in, the model asked, answers out. Names of classes and files become text, never HTML.
// Each answer is an <li> whose data attributes tell it to other programs: file, state (waiting, answered, failed),
// label, probability, probabilities (JSON, in the model's order), strangeness, unknown, seconds. The body's data-state
// is loading, ready or failed.

const MOST_BARS = 5;
const UNSURE = 0.6; // below this probability the answer is called "not sure", as in the app
const LOST = 'This file is damaged or cut short. Copy it again from where it came.';
const NEWER = 'Open this file with Chrome or Edge 91, Firefox 113, Safari 16.4, or a later one.';

const find = (selector) => document.querySelector(selector);
const about = JSON.parse(find('#about').textContent);
const answers = find('#answers');
const parsed = new Promise((done) => document.addEventListener('DOMContentLoaded', done, { once: true }));

class Failure extends Error {} // its message is a sentence

function make(kind, name, text = '') {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}

const say = (sentence) => { find('#status').textContent = sentence; };
const counted = (n, noun) => `${n.toLocaleString('en-US')} ${noun}${n === 1 ? '' : 's'}`;
const percent = (share) => `${share === 1 ? 100 : Math.min(99, Math.round(100 * share))}\u00a0%`;

// The model, out of the text below the page.

async function unpacked(id) {
  const block = document.getElementById(id);
  try {
    const text = atob(block.textContent), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    block.remove(); // its memory is needed elsewhere
    const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(whole).arrayBuffer());
  } catch {
    throw new Failure(LOST);
  }
}

async function load() {
  const needed = ['WebAssembly', 'DecompressionStream', 'createImageBitmap'];
  const lacking = needed.find((name) => !(name in window));
  if (lacking) throw new Failure(`This browser has no ${lacking}, which this page needs. ${NEWER}`);
  await parsed;
  const script = new Blob([await unpacked('runtime-script')], { type: 'text/javascript' });
  const runtime = await unpacked('runtime'), model = await unpacked('model'), url = URL.createObjectURL(script);
  try {
    const ort = await import(url);
    Object.assign(ort.env.wasm, { wasmBinary: runtime, numThreads: 1, proxy: false });
    const session = await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
    return { session, Tensor: ort.Tensor };
  } catch (error) {
    throw new Failure(`The model does not start in this browser (${error.message}). ${NEWER}`);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// One photo.

async function ask({ session, Tensor }, file) {
  const { side } = about.view, started = performance.now();
  const pixels = new Tensor('uint8', await squareOf(file, about.view), [1, side, side, 3]);
  const found = await session.run({ pixels });
  const shares = Array.from(found.probabilities.data);
  const strangeness = found.strangeness ? found.strangeness.data[0] : null;
  const unknown = strangeness === null ? null : strangeness > about.keep;
  const best = shares.indexOf(Math.max(...shares));
  return { shares, best, strangeness, unknown, seconds: (performance.now() - started) / 1000 };
}

function inWords({ shares, best, unknown }) {
  const name = about.shown[best];
  if (unknown) return `None of these, perhaps: nearest is ${name}`;
  return shares[best] < UNSURE ? `Not sure: perhaps ${name}` : name;
}

function bars(shares, order) {
  const list = make('ul', 'bars');
  for (const i of order) {
    const row = make('li', ''), track = make('div', 'track'), filled = document.createElement('div');
    const name = make('span', 'name', about.shown[i]);
    name.title = about.shown[i];
    filled.style.width = `${100 * shares[i]}%`;
    track.append(filled);
    track.ariaHidden = 'true';
    row.append(name, track, make('span', 'share', percent(shares[i])));
    list.append(row);
  }
  return list;
}

function show(card, answer) {
  const { shares, best, unknown, strangeness, seconds } = answer, said = inWords(answer);
  const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]);
  const rest = order.slice(MOST_BARS), more = card.querySelector('.more');
  card.querySelector('.said').textContent = said;
  card.querySelector('.sure').textContent = `${percent(shares[best])} sure`;
  card.querySelector('img').alt = `${card.dataset.file}, called ${about.shown[best]}, ${percent(shares[best])}`;
  card.classList.toggle('doubt', Boolean(unknown) || shares[best] < UNSURE);
  more.prepend(bars(shares, order.slice(0, MOST_BARS)));
  if (rest.length) {
    const folded = document.createElement('details');
    const heading = `${rest.length} more ${rest.length === 1 ? 'class' : 'classes'}`;
    folded.append(make('summary', '', heading), bars(shares, rest));
    more.firstChild.after(folded);
  }
  more.querySelector('.file').append(` · ${seconds.toFixed(2)} s`);
  Object.assign(card.dataset, {
    state: 'answered', label: about.classes[best], probability: shares[best], unknown, strangeness, seconds,
    probabilities: JSON.stringify(shares),
  });
}

const release = (within) => within.querySelectorAll('img').forEach((photo) => URL.revokeObjectURL(photo.src));

function fail(card, sentence) {
  release(card);
  card.replaceChildren(sentence);
  card.className = 'failed';
  card.dataset.state = 'failed';
}

function add(file) {
  const card = make('li', 'answer'), photo = document.createElement('img');
  const words = make('div', 'words'), more = make('div', 'more');
  photo.src = URL.createObjectURL(file);
  photo.alt = file.name;
  photo.decoding = 'async';
  words.append(make('p', 'said', '…'), make('p', 'sure', 'waits for its answer'));
  more.append(make('p', 'file', file.name));
  card.append(photo, words, more);
  Object.assign(card.dataset, { file: file.name, state: 'waiting' });
  return card;
}

// Many photos, one after the other, in the order in which they were given.

const model = load();
let last = Promise.resolve();

async function answer(card, file) {
  const started = await model.catch(() => null);
  if (!started || !card.isConnected) return; // said elsewhere, or cleared meanwhile
  const waiting = answers.querySelectorAll('[data-state=waiting]').length;
  say(waiting > 1 ? `Looking at ${file.name}; ${counted(waiting - 1, 'more photo')} to go` : `Looking at ${file.name}`);
  await new Promise((done) => setTimeout(done)); // lets the page draw
  try {
    show(card, await ask(started, file));
  } catch (error) {
    const reason = error instanceof PictureError ? error.message : `could not be answered (${error.message})`;
    fail(card, `${file.name} ${reason}.`);
  }
  if (waiting === 1) sum();
}

function sum() {
  const cards = [...answers.children], known = cards.filter((card) => card.dataset.state === 'answered');
  if (cards.length === 1) {
    const part = (selector) => cards[0].querySelector(selector).textContent;
    say(known.length ? `${part('.said')}, ${part('.sure')}` : 'The photo could not be read: see why below.');
    return;
  }
  const counts = new Map();
  for (const card of known) {
    const { unknown, label } = card.dataset;
    const name = unknown === 'true' ? 'none of these' : about.shown[about.classes.indexOf(label)];
    counts.set(name, (counts.get(name) || 0) + 1);
  }
  const words = [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name} ${n}`);
  if (known.length < cards.length) words.push(`${cards.length - known.length} not read`);
  say(`${counted(cards.length, 'photo')}: ${words.join(', ')}`);
}

function take(files) {
  if (!files.length || document.body.dataset.state === 'failed') return;
  const cards = files.map(add);
  answers.prepend(...cards);
  answers.classList.toggle('one', answers.children.length === 1);
  find('#clear').hidden = false;
  files.forEach((file, i) => { last = last.then(() => answer(cards[i], file)); });
}

function clear() {
  release(answers);
  answers.replaceChildren();
  find('#clear').hidden = true;
  find('#pick').focus();
  say('Ready.');
}

// What the person does.

const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes('Files');

for (const kind of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  window.addEventListener(kind, (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser opens the photo instead of this page
    document.body.classList.toggle('over', kind === 'dragenter' || kind === 'dragover');
    if (kind === 'drop') take([...event.dataTransfer.files]);
  });
}
window.addEventListener('paste', (event) => take([...event.clipboardData.files]));
find('#pick').addEventListener('change', (event) => {
  take([...event.target.files]);
  event.target.value = ''; // so that the same photo can be chosen again
});
find('#clear').addEventListener('click', clear);
answers.classList.toggle('whole', about.view.framing === 'letterbox');

model.then(
  () => {
    document.body.dataset.state = 'ready';
    if (!answers.children.length) say('Ready.');
  },
  (error) => {
    document.body.dataset.state = 'failed';
    answers.replaceChildren();
    find('#clear').hidden = true;
    say(error.message);
  },
);
