// Lines over time, as SVG: one scale from zero, the latest value in words.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 480;
const HEIGHT = 84;

/** 1234567 is 1.23 M, and 1.23 Mbit/s with a unit. */
export function short(number, unit = '') {
  for (const [prefix, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (number >= size) {
      return `${(number / size).toPrecision(3)} ${prefix}${unit}`;
    }
  }
  const digits = number >= 100 || Number.isInteger(number) ? 0 : number >= 10 ? 1 : 2;
  return `${Number(number.toFixed(digits))}${unit && ` ${unit}`}`;
}

/** A chart of `lines`, each with a name, a class and how to get its value from a sample. */
export class Chart {
  constructor({ title, help, unit, lines, ceiling = 0, steps = false }) {
    Object.assign(this, { unit, lines, ceiling, steps });
    this.element = element('figure', 'chart');
    this.element.title = help;
    const caption = element('figcaption');
    caption.append(element('span', 'title', title));
    this.values = lines.map(({ name, look }) => {
      const value = element('b');
      const label = element('span', `value ${look}`);
      label.append(...(name ? [`${name} `] : []), value);
      caption.append(label);
      return value;
    });
    this.svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none' });
    this.svg.append(
      ...[0.25, 0.5, 0.75].map((part) =>
        shape('path', { class: 'grid', d: `M0 ${HEIGHT * part}H${WIDTH}` })),
    );
    this.paths = lines.map(({ look }, index) => {
      const area = shape('path', { class: `area ${look}` });
      const line = shape('path', { class: `line ${look}` });
      this.svg.append(...(index === 0 ? [area, line] : [line]));
      return { area, line };
    });
    this.scale = element('span', 'scale');
    const frame = element('div', 'frame');
    frame.append(this.svg, this.scale);
    this.element.append(caption, frame);
  }

  /** Shows `samples`, of which there can be `capacity`, the latest at the right edge. */
  show(samples, capacity) {
    const all = this.lines.map(({ of }) => samples.map(of));
    const highest = Math.max(this.ceiling, ...all.flat());
    const top = highest > 0 ? highest * (this.ceiling >= highest ? 1 : 1.15) : 1;
    const x = (place) => WIDTH - ((samples.length - 1 - place) * WIDTH) / (capacity - 1);
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    all.forEach((values, index) => {
      const points = values.map((value, place) => {
        const at = x(place).toFixed(1);
        return this.steps ? `H${at}V${y(value).toFixed(1)}` : `L${at} ${y(value).toFixed(1)}`;
      });
      const start = values.length ? `M${x(0).toFixed(1)} ${y(values[0]).toFixed(1)}` : '';
      const { area, line } = this.paths[index];
      line.setAttribute('d', start + points.join(''));
      area.setAttribute('d', start ? `${start}${points.join('')}V${HEIGHT}H${x(0).toFixed(1)}Z` : '');
      const latest = values.at(-1);
      this.values[index].textContent = latest === undefined ? '–' : short(latest, this.unit);
    });
    this.scale.textContent = short(top, this.unit);
  }
}

export function element(tag, look = '', text = '') {
  const made = document.createElement(tag);
  made.className = look;
  made.textContent = text;
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
}
