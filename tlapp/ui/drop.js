// The body of the function that Gradio calls once for the zone, with `element`, `props` and `trigger`.
// Reads what is dropped or chosen, posts it, and hands on {files: [{rel, path}], skipped: [{rel, reason}]}.
// Knows nothing of classes or photos. Names of files become text, never HTML.

const BATCH_FILES = 100; // the server refuses more than 1,000, and one by one is five times as slow
const BATCH_BYTES = 32 * 2 ** 20;
const JUNK = new Set(['thumbs.db', 'desktop.ini', 'ehthumbs.db', 'icon\r', '__macosx', '$recycle.bin', '@eadir']);
const LOST = 'The connection to the app was lost. See that it still runs, then try again.';

const find = (selector) => element.querySelector(selector);
const zone = find('.tl-drop');
let control = null; // of the upload that runs

class Failure extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status; // of HTTP; 0 where there was no answer
  }
}

const number = (n) => n.toLocaleString('en-US');
const megabytes = (n) => number(Math.round(n / 2 ** 20));
const counted = (n) => (n === 1 ? '1 file' : `${number(n)} files`);
const size = (files) => files.reduce((sum, item) => sum + item.file.size, 0);
const isZip = (rel) => rel.toLowerCase().endsWith('.zip');
const isJunk = (rel) => rel.split('/').some((part) => part.startsWith('.') || JUNK.has(part.toLowerCase()));

function show(state) {
  const hadFocus = zone.contains(document.activeElement);
  zone.dataset.state = state;
  if (hadFocus && state === 'busy') find('button.cancel').focus();
  if (hadFocus && state === 'ready') find('button.folder').focus();
}

function say(sentence, failed = false) {
  find('.said').textContent = sentence;
  find('.said').classList.toggle('failed', failed);
}

function progress(words, share) {
  find('.what').textContent = words;
  find('progress').value = share;
}

// What was dropped or chosen.

function add(found, rel, file) {
  if (isJunk(rel)) return;
  found.files.push({ rel, file });
  if (found.files.length > props.most_files) {
    throw new Failure(`There are more than ${number(props.most_files)} files in there. Choose a smaller folder.`, 0);
  }
  if (found.files.length % 100 === 0) progress(`Looking through the folder · ${counted(found.files.length)} found`, 0);
}

async function walk(entry, base, found, signal) {
  signal.throwIfAborted();
  const rel = base + entry.name;
  if (isJunk(rel)) return;
  try {
    if (entry.isFile) return add(found, rel, await new Promise((done, fail) => entry.file(done, fail)));
    const reader = entry.createReader();
    let children = [];
    for (let some = null; !some || some.length; children = children.concat(some)) {
      some = await new Promise((done, fail) => reader.readEntries(done, fail)); // 100 at a time
    }
    if (!children.length) found.skipped.push({ rel, reason: 'is an empty folder' });
    // One file after the other would take seconds for thousands, all folders at once too much of the browser.
    await Promise.all(children.filter((child) => child.isFile).map((child) => walk(child, rel + '/', found, signal)));
    for (const child of children) if (!child.isFile) await walk(child, rel + '/', found, signal);
  } catch (error) {
    if (error instanceof Failure || signal.aborted) throw error;
    found.skipped.push({ rel, reason: 'cannot be opened; there may be no permission to read it' });
  }
}

// Some files are not worth sending: they are named instead. The size of a zip is for the server to judge.
function sift(found) {
  const fits = ({ rel, file }) => file.size <= props.most_bytes || (found.files.length === 1 && isZip(rel));
  const name = (reason) => ({ rel }) => found.skipped.push({ rel, reason });
  found.files.filter((item) => item.file.size === 0).forEach(name('is empty (0 bytes)'));
  found.files.filter((item) => !fits(item)).forEach(name(`is larger than ${megabytes(props.most_bytes)} MB`));
  return found.files.filter((item) => item.file.size > 0 && fits(item));
}

// Uploading.

function* batches(files) {
  let batch = [], bytes = 0;
  for (const item of files) {
    if (batch.length === BATCH_FILES || (batch.length && bytes + item.file.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(item);
    bytes += item.file.size;
  }
  if (batch.length) yield batch;
}

function refusal(status, batch, said) {
  if (said) return said; // by the app itself, which has counted
  if (status === 401) return 'The app asks for the password again. Reload the page.';
  if (status === 413 && batch.length === 1 && isZip(batch[0].rel)) {
    return `${batch[0].rel} is larger than the app accepts. Drop the folder itself instead.`;
  }
  if (status === 413) return 'One of the files is larger than the app accepts. Take it out of the folder, then try again.';
  return `The app refused the upload (status ${status}). Reload the page, then try again.`;
}

// One request, answered by the places of its files in their order. XMLHttpRequest, for fetch tells no progress.
function post(batch, signal, progressed) {
  const token = crypto.getRandomValues(new Uint32Array(4)).join('-');
  const form = new FormData();
  // The server keeps one place for equal bytes under equal names; names of our own keep the files apart.
  batch.forEach((item, i) => form.append('files', item.file, `${token}-${i}`));
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open('POST', 'gradio_api/upload');
    request.responseType = 'json';
    request.upload.onprogress = (event) => progressed(event.loaded);
    request.onload = () => {
      const paths = request.response;
      if (request.status === 200 && Array.isArray(paths) && paths.length === batch.length) done(paths);
      else fail(new Failure(refusal(request.status, batch, paths?.error), request.status));
    };
    request.onerror = () => fail(new Failure(LOST, 0));
    request.onabort = () => fail(new Failure('aborted', 0));
    signal.onabort = () => request.abort();
    request.send(form);
  });
}

// A browser reports a file that it cannot read as a lost connection: those are named, and the others sent.
async function send(batch, skipped, signal, progressed) {
  try {
    const paths = await post(batch, signal, progressed);
    return batch.map(({ rel }, i) => ({ rel, path: paths[i] }));
  } catch (error) {
    if (error.status !== 0 || signal.aborted) throw error;
    const read = (item) => item.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
    const readable = await Promise.all(batch.map(read));
    if (readable.every(Boolean)) throw error;
    batch.forEach(({ rel }, i) => readable[i] || skipped.push({ rel, reason: 'changed or vanished during the upload' }));
    const rest = batch.filter((_, i) => readable[i]);
    return rest.length ? send(rest, skipped, signal, progressed) : [];
  }
}

function report(files, total, first, before, loaded) {
  let done = first, left = loaded;
  while (done < files.length - 1 && left >= files[done].file.size) left -= files[done++].file.size;
  const { rel } = files[done];
  const words = files.length === 1 && isZip(rel)
    ? `Uploading ${megabytes(before + loaded)} of ${megabytes(total)} MB · ${rel.split('/').pop()}`
    : `Uploading ${number(done)} of ${counted(files.length)} · ${rel.split('/').slice(-2, -1)[0] || rel}`;
  progress(words, (before + loaded) / total);
}

async function upload(files, sent, skipped, signal) {
  const total = size(files);
  let first = 0, before = 0;
  for (const batch of batches(files)) {
    signal.throwIfAborted();
    const bytes = size(batch);
    const progressed = (loaded) => report(files, total, first, before, Math.min(loaded, bytes));
    progressed(0);
    sent.push(...(await send(batch, skipped, signal, progressed)));
    first += batch.length;
    before += bytes;
  }
}

async function take(collect) {
  if (control) return;
  control = new AbortController();
  const { signal } = control, sent = [], found = { files: [], skipped: [] };
  progress('Looking through the folder', 0);
  say('');
  show('busy');
  try {
    await collect(found, signal);
    if (!found.files.length && !found.skipped.length) throw new Failure('There are no files in there.', 0);
    await upload(sift(found), sent, found.skipped, signal);
    props.value = { files: sent, skipped: found.skipped };
    trigger('upload');
    say(`${counted(sent.length)} uploaded. ${find('.said').dataset.then}`);
  } catch (error) {
    if (signal.aborted) say('Cancelled. Nothing was kept.');
    else say(error instanceof Failure ? error.message : `This could not be read (${error.name}). Try again.`, true);
    if (sent.length && (signal.aborted || error.status)) {
      props.value = { files: sent, skipped: [] };
      trigger('clear');
    }
  } finally {
    control = null;
    show('ready');
  }
}

// What the person does.

for (const kind of ['folder', 'files']) {
  const input = find(`input.${kind}`);
  find(`button.${kind}`).addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const chosen = [...input.files];
    input.value = ''; // else choosing the same folder again would change nothing
    take((found) => chosen.forEach((file) => add(found, file.webkitRelativePath || file.name, file)));
  });
}

find('button.cancel').addEventListener('click', () => control?.abort());

const carriesFiles = (event) => event.dataTransfer?.types.includes('Files');

zone.addEventListener('dragover', (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = control ? 'none' : 'copy';
  if (!control) show('over');
});

zone.addEventListener('dragleave', (event) => {
  if (!control && !zone.contains(event.relatedTarget)) show('ready');
});

function takeDropped(event) {
  event.preventDefault();
  // Entries and files can be had only until the handler returns.
  const items = [...event.dataTransfer.items].filter((item) => item.kind === 'file');
  const dropped = items.map((item) => [item.webkitGetAsEntry(), item.getAsFile()]);
  take(async (found, signal) => {
    for (const [entry, file] of dropped) {
      if (entry) await walk(entry, '', found, signal);
      else if (file) add(found, file.name, file);
    }
  });
}

zone.addEventListener('drop', (event) => carriesFiles(event) && takeDropped(event));

if (props.anywhere) {
  // Beside all zones; a folder, or a zip, has no type of a picture.
  const arePhotos = ({ target, dataTransfer }) =>
    zone.checkVisibility() && !target.closest?.('.tl-drop') && dataTransfer?.types.includes('Files') &&
    [...dataTransfer.items].every((item) => item.type.startsWith('image/'));
  document.addEventListener('dragover', (event) => {
    if (!arePhotos(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = control ? 'none' : 'copy';
    if (!control) show('over');
  });
  document.addEventListener('dragleave', (event) => control || event.relatedTarget || show('ready'));
  document.addEventListener('drop', (event) => arePhotos(event) && takeDropped(event));
}

if (props.pastes) {
  document.addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || event.defaultPrevented || !zone.checkVisibility()) return;
    event.preventDefault();
    take((found) => files.forEach((file) => add(found, file.name, file)));
  });
}

// A drop beside the zone would make the browser leave the page for the dropped file.
window.addEventListener('dragover', (event) => {
  if (event.defaultPrevented || !carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'none';
});

show('ready');
