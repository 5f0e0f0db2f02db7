// The way to the daemon: requests with the token, refusals as errors, and events that go on where
// they stopped when the connection breaks.

const TOKEN = 'ix-token';
const RETRY_MS = 1000;

/** A refusal in the daemon's words. */
export class Refused extends Error {
  constructor(status, refusal) {
    super(refusal.reason);
    this.status = status;
    this.remedy = refusal.remedy;
  }
}

/** Takes the token from the address (`#token=…`), where it does not stay, or from this tab's memory. */
export function recallToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, '', location.pathname);
  }
}

export function rememberToken(token) {
  sessionStorage.setItem(TOKEN, token.trim());
}

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

async function accepted(response) {
  if (response.ok) {
    return response;
  }
  const unknown = { reason: `the daemon answered ${response.status}`, remedy: 'see its log' };
  throw new Refused(response.status, await response.json().catch(() => unknown));
}

export async function get(path) {
  const response = await fetch(path, { headers: headers() });
  return (await accepted(response)).json();
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: headers({ 'content-type': 'application/json' }),
    body: JSON.stringify(body),
  });
  return (await accepted(response)).json();
}

/** Hands over each event, for ever. `EventSource` does the same, but cannot send a token. */
export async function follow(path, each) {
  let last = null;
  for (;;) {
    try {
      const seen = last === null ? {} : { 'last-event-id': last };
      const response = await accepted(await fetch(path, { headers: headers(seen) }));
      await messages(response.body, (id, data) => {
        last = id;
        each(JSON.parse(data));
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 403) {
        return;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Server-sent events of a body that comes in any pieces. */
async function messages(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  let id = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return;
    }
    text += value;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const line = text.slice(0, end).trimEnd();
      text = text.slice(end + 1);
      if (line.startsWith('id:')) {
        id = line.slice(3).trim();
      } else if (line.startsWith('data:')) {
        each(id, line.slice(5).trim());
      }
    }
  }
}
