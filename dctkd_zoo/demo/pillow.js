"use strict";
// Preprocessing of evaluation: Pillow's resize, to the bit, then a centre crop and normalisation as in torchvision.

const FILTERS = { // [support, weight of a distance] as in Pillow's Resample.c
  bilinear: [1, x => (x = Math.abs(x)) < 1 ? 1 - x : 0],
  bicubic: [2, x => (x = Math.abs(x)) < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0],
};
const PRECISION = 22; // bits after the binary point of a weight

// The weights of the input samples that make up the output samples `from` to `from + count` of `after`, of `before`.
function coefficients(before, after, from, count, [radius, weight]) {
  const scale = before / after, stretch = Math.max(scale, 1), support = radius * stretch;
  return Array.from({ length: count }, (_, index) => {
    const centre = (from + index + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), before);
    const raw = Array.from({ length: last - first }, (_, i) => weight((i + first - centre + 0.5) * (1 / stretch)));
    const sum = raw.reduce((a, b) => a + b, 0);
    const weights = raw.map(w => (sum ? w / sum : w) * (1 << PRECISION)).map(w => Math.trunc(w + (w < 0 ? -0.5 : 0.5)));
    return { first, weights };
  });
}

// One pass over pixels of `width` x `height`, 4 bytes each: output samples lie `across` apart in the input, others `along`.
function pass(pixels, table, lines, along, across) {
  const result = new Uint8ClampedArray(table.length * lines * 4), horizontal = along === 4;
  table.forEach(({ first, weights }, sample) => {
    for (let line = 0; line < lines; line++) {
      let red = 1 << (PRECISION - 1), green = red, blue = red, at = first * along + line * across;
      for (const weight of weights) {
        red = (red + pixels[at] * weight) | 0;
        green = (green + pixels[at + 1] * weight) | 0;
        blue = (blue + pixels[at + 2] * weight) | 0;
        at += along;
      }
      const to = 4 * (horizontal ? line * table.length + sample : sample * lines + line);
      result[to] = red >> PRECISION; result[to + 1] = green >> PRECISION; result[to + 2] = blue >> PRECISION;
      result[to + 3] = 255;
    }
  });
  return result;
}

// Where the centre crop lies: the size of the resized image, and the crop's corner in it.
function placement(width, height, { size, resize }) {
  const short = Math.min(width, height), long = Math.trunc(resize * Math.max(width, height) / short);
  const [w, h] = width <= height ? [resize, long] : [long, resize];
  return { w, h, left: half(w - size), top: half(h - size) };
}

// Half of a whole number, rounded to the even neighbour as in Python.
function half(n) {
  return n % 2 === 0 ? n / 2 : n % 4 === 1 ? (n - 1) / 2 : (n + 1) / 2;
}

// The centre crop of an image ({width, height, data} in RGBA), `size` x `size` RGBA: only what is in it is computed.
function cropped({ width, height, data }, network) {
  const { size, interpolation } = network, { w, h, left, top } = placement(width, height, network);
  const columns = w === width ? shifted(left, size) : coefficients(width, w, left, size, FILTERS[interpolation]);
  const rows = h === height ? shifted(top, size) : coefficients(height, h, top, size, FILTERS[interpolation]);
  const begin = rows[0].first, end = Math.max(...rows.map(row => row.first + row.weights.length));
  const narrow = pass(data.subarray(begin * width * 4, end * width * 4), columns, end - begin, 4, width * 4);
  return pass(narrow, rows.map(row => ({ ...row, first: row.first - begin })), size, size * 4, 4);
}

// The weights of a pass that only cuts.
function shifted(from, count) {
  return Array.from({ length: count }, (_, index) => ({ first: from + index, weights: [1 << PRECISION] }));
}

// RGBA pixels as a network takes them: float32, 3 x size x size.
function normalised(pixels, { size, mean, std }) {
  const area = size * size, result = new Float32Array(3 * area), f = Math.fround;
  for (let channel = 0; channel < 3; channel++)
    for (let i = 0; i < area; i++)
      result[channel * area + i] = f(f(f(pixels[4 * i + channel] / 255) - f(mean[channel])) / f(std[channel]));
  return result;
}
