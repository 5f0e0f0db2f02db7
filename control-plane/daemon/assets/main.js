// The board: asks once a second, shows what there is, and grants and revokes.

import { Refused, follow, get, post, recallToken, rememberToken } from './client.js';
import { Chart, element, short } from './chart.js';

const PERIOD_MS = 1000;
const EVENTS_SHOWN = 200;
/** The time axis is at least so many samples wide, so that the first ones are no wall. */
const SAMPLES_SHOWN_AT_LEAST = 60;

const find = (id) => document.getElementById(id);
const cards = new Map();
/** The hardware thread that the next grant or revoke is about; none: the daemon chooses. */
let chosen = null;
let cores = { emulated: false, threads: [] };

const CHARTS = [
  {
    title: 'Throughput',
    help: 'Frames a second, all threads together',
    unit: 'fps',
    ceiling: 10,
    lines: [
      { name: 'in', look: 'first', of: (it) => it.rx_frames },
      { name: 'out', look: 'second', of: (it) => it.tx_frames },
    ],
  },
  {
    title: 'Bytes',
    help: 'Bits a second on the wire, all threads together',
    unit: 'bit/s',
    ceiling: 1000,
    lines: [
      { name: 'in', look: 'first', of: (it) => it.rx_bytes * 8 },
      { name: 'out', look: 'second', of: (it) => it.tx_bytes * 8 },
    ],
  },
  {
    title: 'Latency: a busy cycle',
    help: 'From taking a batch of frames to having sent the answers: average over 1 s at the slowest '
      + 'thread. The wire and the client are not in it.',
    unit: 'µs',
    ceiling: 10,
    lines: [{ look: 'first', of: (it) => it.loop_ns / 1e3 }],
  },
  {
    title: 'Latency: frames waiting',
    help: 'Frames in the RX ring of the fullest thread, average over 1 s: each waits for those before it',
    unit: '',
    ceiling: 1,
    lines: [{ look: 'first', of: (it) => it.waiting }],
  },
  {
    title: 'Threads',
    help: 'Elastic threads with a hardware thread, and how many of them their load keeps busy',
    unit: '',
    ceiling: 1,
    lines: [
      { name: 'granted', look: 'first', of: (it) => it.granted },
      { name: 'busy', look: 'second', of: (it) => it.busy * it.granted },
    ],
  },
  {
    title: 'Drops',
    help: 'Frames lost for want of room, refused, or not sent, a second',
    unit: '/s',
    ceiling: 10,
    lines: [{ look: 'bad', of: (it) => it.drops }],
  },
];

/** Threads look alike everywhere: steps of the golden angle, so that neighbours differ. */
function hue(thread) {
  return (212 + thread * 137.508) % 360;
}

class Card {
  constructor(name) {
    this.name = name;
    this.samples = [];
    this.frames = [];
    this.rates = [];
    this.element = find('dataplane').content.firstElementChild.cloneNode(true);
    this.element.dataset.name = name;
    this.part('name').textContent = name;
    this.charts = CHARTS.map((chart) => new Chart(chart));
    this.part('charts').append(...this.charts.map((chart) => chart.element));
    this.part('grant').addEventListener('click', () => this.change('grant', isFree));
    this.part('revoke').addEventListener('click', () => this.change('revoke', (it) => isOf(it, name)));
  }

  part(look) {
    return this.element.querySelector(`.${look}`);
  }

  async change(what, fits) {
    const core = cores.threads.find(({ id }) => id === chosen);
    const request = core && fits(core.use) ? { core: core.id } : {};
    chosen = null;
    this.isChanging = true;
    this.allow();
    try {
      await post(`/v1/dataplanes/${encodeURIComponent(this.name)}/${what}`, request);
    } catch (error) {
      complain(error);
    }
    this.isChanging = false;
    await look();
  }

  allow() {
    const { state, granted, threads, policy } = this.view;
    const fixed = this.isChanging || state !== 'running' || policy === 'static';
    this.part('grant').disabled = fixed || granted >= threads;
    this.part('revoke').disabled = fixed || granted <= 1;
  }

  async look(view) {
    const granted = view.cores.filter((core) => core !== null).length;
    this.view = { ...view, granted };
    const path = `/v1/dataplanes/${encodeURIComponent(this.name)}`;
    const after = this.samples.at(-1)?.at_ms ?? 0;
    const [stats, groups, past] = await Promise.all([
      get(`${path}/stats`), get(`${path}/groups`), get(`${path}/history?after=${after}`),
    ]);
    this.samples.push(...past.samples);
    this.samples.splice(0, Math.max(0, this.samples.length - past.capacity));
    this.showHeading();
    const wide = Math.max(SAMPLES_SHOWN_AT_LEAST, this.samples.length);
    this.charts.forEach((chart) => chart.show(this.samples, wide));
    this.showGroups(groups);
    this.showThreads(stats.threads, groups);
  }

  showHeading() {
    const { state, app, ip, policy, accel, netns, granted, threads, ended } = this.view;
    this.part('state').textContent = state;
    this.part('state').className = `state ${state}`;
    this.part('about').textContent = [app, ip, accel, netns, `policy ${policy}`]
      .filter(Boolean).join(' · ');
    this.part('granted').textContent = `${granted} of ${threads}`;
    this.part('ended').hidden = !ended;
    this.part('ended').textContent = ended ?? '';
    this.allow();
  }

  /** Brightness is the load of a group beside that of the busiest one. */
  showGroups(groups) {
    const place = this.part('groups');
    if (place.childElementCount !== groups.length) {
      place.replaceChildren(...groups.map(() => element('i')));
    }
    const now = performance.now();
    const seconds = (now - (this.framesAt ?? now)) / 1000;
    if (seconds > 0) {
      this.rates = groups.map(({ group, frames }) =>
        Math.max(0, frames - (this.frames[group] ?? frames)) / seconds);
    }
    this.frames = groups.map(({ frames }) => frames);
    this.framesAt = now;
    const most = Math.max(1, ...this.rates);
    groups.forEach(({ group, thread }, index) => {
      const cell = place.children[index];
      const rate = this.rates[index] ?? 0;
      cell.style.setProperty('--hue', hue(thread));
      cell.style.setProperty('--load', (0.22 + 0.78 * Math.sqrt(rate / most)).toFixed(3));
      cell.dataset.thread = thread;
      cell.title = `group ${group}: thread ${thread}, ${short(rate)} frames/s`;
    });
  }

  showThreads(threads, groups) {
    const rates = new Map();
    groups.forEach(({ thread }, index) => {
      rates.set(thread, (rates.get(thread) ?? 0) + (this.rates[index] ?? 0));
    });
    const head = ['thread', 'on', 'groups', 'frames/s', 'connections', 'waiting', 'cycle'];
    const rows = threads.map((it) => [
      `${it.thread}`,
      it.state === 'running' ? `${this.view.cores[it.thread] ?? '?'}` : it.state,
      `${groups.filter(({ thread }) => thread === it.thread).length}`,
      short(rates.get(it.thread) ?? 0),
      `${it.connections}`,
      short(it.queue_depth[2]),
      short(it.loop_ns[2] / 1000, 'µs'),
    ]);
    this.part('threads').replaceChildren(threads.length ? table(head, rows) : '');
  }
}

function table(head, rows) {
  const made = element('table');
  const line = (cells, kind) => {
    const row = element('tr');
    row.append(...cells.map((cell) => element(kind, '', cell)));
    return row;
  };
  made.createTHead().append(line(head, 'th'));
  const body = made.createTBody();
  rows.forEach((cells, thread) => {
    const row = line(cells, 'td');
    row.style.setProperty('--hue', hue(thread));
    body.append(row);
  });
  return made;
}

const isFree = (use) => use === 'free';
const isOf = (use, name) => use.granted?.dataplane === name;

function useInWords(use) {
  if (use === 'reserved') {
    return 'Linux';
  }
  return isFree(use) ? 'free' : `${use.granted.dataplane} ${use.granted.thread ?? 'background'}`;
}

function groupedBy(items, key) {
  const groups = new Map();
  items.forEach((item) => groups.set(key(item), [...(groups.get(key(item)) ?? []), item]));
  return groups;
}

function showCores() {
  const packages = [...groupedBy(cores.threads, (it) => it.package)].map(([number, threads]) => {
    const box = element('div', 'package');
    box.append(element('h3', '', `Package ${number}`));
    const row = element('div', 'row');
    row.append(...[...groupedBy(threads, (it) => it.core)].map(([, siblings]) => {
      const core = element('div', 'core');
      core.append(...siblings.map(coreButton));
      return core;
    }));
    box.append(row);
    return box;
  });
  find('cores').replaceChildren(...packages);
  const free = cores.threads.filter(({ use }) => isFree(use)).length;
  find('cores-note').textContent = [
    cores.emulated ? 'Made up by emulate_cores: nothing is pinned.' : '',
    chosen === null ? 'Choose one to grant or revoke just that one.' : `${chosen} is chosen.`,
  ].join(' ');
  const running = [...cards.values()].filter(({ view }) => view?.state === 'running').length;
  find('summary').textContent =
    `${cards.size} dataplanes, ${running} running · ${free} of ${cores.threads.length} hardware threads free`;
}

function coreButton({ id, use }) {
  const kind = typeof use === 'string' ? use : 'held';
  const button = element('button', `thread ${kind}${chosen === id ? ' chosen' : ''}`);
  button.type = 'button';
  button.disabled = use === 'reserved';
  button.append(element('b', '', `${id}`), element('span', '', useInWords(use)));
  if (use.granted) {
    button.style.setProperty('--hue', hue(use.granted.thread ?? -1));
  }
  button.addEventListener('click', () => {
    chosen = chosen === id ? null : id;
    showCores();
  });
  return button;
}

function addEvent(event) {
  if ('missed' in event) {
    event = {
      kind: 'failed', at_ms: Date.now(), dataplane: '',
      text: `${event.missed} events came too fast to be shown`,
    };
  }
  const line = element('li', event.kind);
  line.append(
    element('time', '', new Date(event.at_ms).toLocaleTimeString()),
    element('b', '', event.dataplane),
    element('span', '', event.text),
  );
  find('events').prepend(line);
  while (find('events').childElementCount > EVENTS_SHOWN) {
    find('events').lastElementChild.remove();
  }
}

function complain(error) {
  const toast = element('div', 'toast');
  toast.append(element('b', '', error.message), element('span', '', error.remedy ?? ''));
  toast.addEventListener('click', () => toast.remove());
  find('toasts').append(toast);
  setTimeout(() => toast.remove(), 12000);
}

function say(link, look) {
  find('link').textContent = link;
  find('link').className = `link ${look}`;
}

let looking = null;

/** One look at everything; whoever asks while one is under way gets that one. */
function look() {
  looking ??= lookOnce().finally(() => { looking = null; });
  return looking;
}

async function lookOnce() {
  const [views, map] = await Promise.all([get('/v1/dataplanes'), get('/v1/cores')]);
  cores = map;
  for (const name of cards.keys()) {
    if (!views.some((view) => view.name === name)) {
      cards.get(name).element.remove();
      cards.delete(name);
    }
  }
  for (const view of views) {
    if (!cards.has(view.name)) {
      cards.set(view.name, new Card(view.name));
      find('dataplanes').append(cards.get(view.name).element);
    }
  }
  find('dataplanes').dataset.empty = views.length === 0;
  const looks = views.map((view) => cards.get(view.name).look(view));
  // One that was removed just now is gone with the next look.
  await Promise.all(looks.map((it) => it.catch((error) => {
    if (!(error instanceof Refused && error.status === 404)) {
      throw error;
    }
  })));
  showCores();
}

async function watch() {
  for (;;) {
    try {
      await look();
      say('live', 'good');
    } catch (error) {
      if (error instanceof Refused && error.status === 403) {
        return askForToken();
      }
      say('the daemon does not answer; dataplanes go on', 'bad');
    }
    await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
  }
}

function askForToken() {
  say('token needed', 'bad');
  find('board').hidden = true;
  find('login').hidden = false;
  find('token').focus();
}

async function begin() {
  try {
    await look();
  } catch (error) {
    if (error instanceof Refused && error.status === 403) {
      return askForToken();
    }
  }
  find('login').hidden = true;
  find('board').hidden = false;
  follow('/v1/events', addEvent);
  await watch();
}

find('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  rememberToken(find('token').value);
  find('login-problem').textContent = '';
  await begin();
  if (!find('login').hidden) {
    find('login-problem').textContent = 'That is not it.';
  }
});
recallToken();
begin();
