// A photo → the square that the model looks at, as `pictures.py` makes it. Decoding is the browser's; every change of
// size is Pillow's (its Resample.c: an antialiased filter in 22-bit fixed point, across first, then down).
// A picture is {width, height, data}: RGBA, four bytes a pixel, row by row. Knows nothing of the page or the model.

const SHORT_SIDE = 256;
const MOST_BYTES = 256 * 2 ** 20;
const MOST_PIXELS = 120_000_000;
const MOST_ASPECT = 20;
const LEAST_SIDE = 8;
const GREY = 127;
const BITS = 22;
const STRIP = 32; // rows, a multiple of 8: a photo at full size is never in memory a second time

class PictureError extends Error {} // the message completes the sentence "<file> …"

// Both as Pillow has them: how far they reach in pixels, and the weight at a distance from the middle.
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const far = Math.abs(x);
    if (far < 1) return (1.5 * far - 2.5) * far * far + 1;
    return far < 2 ? (((far - 5) * far + 8) * far - 4) * -0.5 : 0;
  }],
};

// For each pixel along one side: the first one it is made of, and the weights of that and the next.
function taps(from, to, interpolation) {
  const [reach, weigh] = FILTERS[interpolation];
  const scale = from / to, spread = Math.max(scale, 1), support = reach * spread;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => weigh((k + first - centre + 0.5) * (1 / spread)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const fixed = (weight) => Math.trunc((weight / sum) * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));
    return { first, weights: Int32Array.from(weights, fixed) };
  });
}

// One pass along one side, for many lines. `step`, `line`: bytes between pixels of a line, and between lines.
function pass(lines, along, source, step, line, target, targetStep, targetLine) {
  along.forEach(({ first, weights }, i) => {
    for (let n = 0; n < lines; n++) {
      let at = n * line + first * step, red = 1 << (BITS - 1), green = red, blue = red;
      for (let k = 0; k < weights.length; k++, at += step) {
        const weight = weights[k];
        red += source[at] * weight;
        green += source[at + 1] * weight;
        blue += source[at + 2] * weight;
      }
      const to = n * targetLine + i * targetStep; // a clamped array takes 0 to 255
      target[to] = red >> BITS;
      target[to + 1] = green >> BITS;
      target[to + 2] = blue >> BITS;
      target[to + 3] = 255;
    }
  });
}

function down(picture, height, interpolation) {
  const row = 4 * picture.width, data = new Uint8ClampedArray(row * height);
  pass(picture.width, taps(picture.height, height, interpolation), picture.data, row, 4, data, row, 4);
  return { width: picture.width, height, data };
}

function across(picture, width, interpolation) {
  const data = new Uint8ClampedArray(4 * width * picture.height), along = taps(picture.width, width, interpolation);
  pass(picture.height, along, picture.data, 4, 4 * picture.width, data, 4, 4 * width);
  return { width, height: picture.height, data };
}

function resized(picture, width, height, interpolation) {
  const narrow = picture.width === width ? picture : across(picture, width, interpolation);
  return picture.height === height ? narrow : down(narrow, height, interpolation);
}

// [width, height] with the shorter side at `side`.
function scaled(width, height, side) {
  return width <= height
    ? [side, Math.trunc((side * height) / width)]
    : [Math.trunc((side * width) / height), side];
}

// As Python's round: halves go to the even neighbour.
function rounded(x) {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 ? near - 1 : near;
}

// Pixels a side that Pillow takes together while it decodes a large JPEG: 1, 2, 4 or 8.
function drafted({ width, height }) {
  const [least, most] = scaled(width, height, SHORT_SIDE);
  return [8, 4, 2].find((side) => Math.min(width / least, height / most) >= side) || 1;
}

// Squares of `side` pixels, each as its mean, as libjpeg has them; those at the edge go on with their last pixel.
function averaged(source, width, height, side) {
  const columns = Math.ceil(width / side), rows = Math.ceil(height / side), half = (side * side) / 2;
  const data = new Uint8ClampedArray(4 * columns * rows);
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, to += 4) {
      let red = half, green = half, blue = half;
      for (let v = 0; v < side; v++) {
        const row = Math.min(y * side + v, height - 1) * width;
        for (let u = 0; u < side; u++) {
          const at = 4 * (row + Math.min(x * side + u, width - 1));
          red += source[at];
          green += source[at + 1];
          blue += source[at + 2];
        }
      }
      data[to] = Math.floor(red / (side * side));
      data[to + 1] = Math.floor(green / (side * side));
      data[to + 2] = Math.floor(blue / (side * side));
      data[to + 3] = 255;
    }
  }
  return data;
}

// The rows of a decoded photo on white, the shorter side at most SHORT_SIDE. `side`: what is taken together before.
function shrunk(bitmap, side) {
  const columns = Math.ceil(bitmap.width / side), rows = Math.ceil(bitmap.height / side);
  const small = Math.min(columns, rows) <= SHORT_SIDE;
  const [width, height] = small ? [columns, rows] : scaled(columns, rows, SHORT_SIDE);
  const along = taps(columns, width, 'bicubic'), row = 4 * width;
  const narrow = { width, height: rows, data: new Uint8ClampedArray(row * rows) };
  const canvas = document.createElement('canvas');
  canvas.width = bitmap.width;
  canvas.height = Math.min(STRIP, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.fillStyle = 'white';
  for (let top = 0; top < bitmap.height; top += STRIP) {
    const whole = Math.min(STRIP, bitmap.height - top);
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, -top);
    const pixels = context.getImageData(0, 0, bitmap.width, whole).data;
    const strip = side === 1 ? pixels : averaged(pixels, bitmap.width, whole, side);
    const target = narrow.data.subarray((top / side) * row);
    if (small) target.set(strip);
    else pass(Math.ceil(whole / side), along, strip, 4, 4 * columns, target, 4, row);
  }
  return narrow.height === height ? narrow : down(narrow, height, 'bicubic');
}

function cut(picture, left, top, side) {
  const data = new Uint8Array(3 * side * side);
  for (let y = 0, to = 0; y < side; y++) {
    for (let x = 0; x < side; x++, to += 3) {
      const at = 4 * ((y + top) * picture.width + x + left);
      data.set(picture.data.subarray(at, at + 3), to);
    }
  }
  return data;
}

function centre(picture, { resize, side, interpolation }) {
  const same = Math.min(picture.width, picture.height) === resize;
  const whole = same
    ? picture
    : resized(picture, ...scaled(picture.width, picture.height, resize), interpolation);
  return cut(whole, rounded((whole.width - side) / 2), rounded((whole.height - side) / 2), side);
}

function letterboxed(picture, { side, interpolation }) {
  const longer = Math.max(picture.width, picture.height);
  const fitting = (length) => Math.max(1, rounded((length * side) / longer));
  const whole = longer === side
    ? picture
    : resized(picture, fitting(picture.width), fitting(picture.height), interpolation);
  const square = { width: side, height: side, data: new Uint8ClampedArray(4 * side * side).fill(GREY) };
  const left = Math.floor((side - whole.width) / 2), top = Math.floor((side - whole.height) / 2);
  for (let y = 0; y < whole.height; y++) {
    const row = whole.data.subarray(4 * y * whole.width, 4 * (y + 1) * whole.width);
    square.data.set(row, 4 * ((y + top) * side + left));
  }
  return cut(square, 0, 0, side);
}

async function decoded(file) {
  if (!file.size) throw new PictureError('is empty (0 bytes)');
  if (file.size > MOST_BYTES) throw new PictureError(`is larger than ${MOST_BYTES / 2 ** 20} MB`);
  let bitmap;
  try { // colours as they are in the file: the model learned from those
    bitmap = await createImageBitmap(file, { imageOrientation: 'from-image', colorSpaceConversion: 'none' });
  } catch {
    throw new PictureError('is not a picture that this browser can read, or it is damaged; save it as JPEG or PNG');
  }
  const { width, height } = bitmap, size = `${width} × ${height} pixels`;
  if (Math.min(width, height) < LEAST_SIDE) {
    throw new PictureError(`is only ${size}; at least ${LEAST_SIDE} a side are needed`);
  }
  if (Math.max(width, height) > MOST_ASPECT * Math.min(width, height)) {
    throw new PictureError(`is ${size}, more than ${MOST_ASPECT} times as long as wide; crop it first`);
  }
  if (width * height > MOST_PIXELS) {
    throw new PictureError(`has more than ${MOST_PIXELS / 1e6} megapixels; make it smaller`);
  }
  return bitmap;
}

// A file → RGB of `view.side` × `view.side` pixels, three bytes each. Throws PictureError.
async function squareOf(file, view) {
  const bitmap = await decoded(file);
  try {
    const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const isJpeg = first === 0xff && second === 0xd8;
    const picture = shrunk(bitmap, isJpeg ? drafted(bitmap) : 1);
    return view.framing === 'letterbox' ? letterboxed(picture, view) : centre(picture, view);
  } catch (error) { // a canvas, or the memory for it, was refused
    throw new PictureError(`cannot be unfolded in this browser (${error.message}); make it smaller`);
  } finally {
    bitmap.close();
  }
}
