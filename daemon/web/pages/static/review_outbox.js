// Outbox: what was answered is kept in the browser until the server has said that it has it.
// Each message lies under a key of its own, so that two tabs do not write over each other's; sending one twice
// does no harm, for the server knows a request by its number.

const PREFIX = "bt-review-outbox:";
const FIRST_WAIT = 1000, LONGEST_WAIT = 15000; // milliseconds
const REFUSED = new Set([400, 404, 409, 413, 415]); // sending it again would be refused again

/** A UUID of version 4; crypto.randomUUID exists on secure pages alone. */
export const uuid = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
};

export class Outbox {
  #sending = false;
  #timer = 0;
  #wait = FIRST_WAIT;
  #lost = false;

  /** `changed(count, lost)` is told how many wait; `refused(message, text)` what the server will not take. */
  constructor({ changed, refused }) {
    this.changed = changed;
    this.refused = refused;
    addEventListener("online", () => this.send());
    addEventListener("storage", () => this.#tell());
    this.#tell();
  }

  /** The messages that wait, the oldest first. */
  waiting() {
    const found = [];
    for (let place = 0; place < localStorage.length; place++) {
      const key = localStorage.key(place);
      if (key.startsWith(PREFIX)) found.push({ key, ...JSON.parse(localStorage.getItem(key)) });
    }
    return found.sort((one, other) => one.at - other.at);
  }

  /** The images of unsent answers, which the server does not know to be answered. */
  images() {
    return this.waiting().filter((one) => one.path === "/api/review").map((one) => one.body.id);
  }

  put(path, body, name) {
    const at = Math.max(Date.now(), (this.waiting().at(-1)?.at ?? 0) + 1);
    localStorage.setItem(PREFIX + uuid(), JSON.stringify({ at, path, body, name }));
    this.#tell();
    this.send();
  }

  /** Send what waits, one after the other; tries again by itself. */
  async send() {
    if (this.#sending) return;
    this.#sending = true;
    clearTimeout(this.#timer);
    try {
      for (let [next] = this.waiting(); next; [next] = this.waiting()) {
        await this.#sendOne(next);
        this.#wait = FIRST_WAIT;
        this.#lost = false;
        this.#tell();
      }
    } catch {
      this.#lost = true;
      this.#timer = setTimeout(() => this.send(), this.#wait);
      this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
    } finally {
      this.#sending = false;
      this.#tell();
    }
    if (!this.#lost && this.waiting().length) this.send(); // put while the last one was on its way
  }

  async #sendOne(message) {
    const answer = await fetch(message.path, {
      method: "POST", credentials: "same-origin", body: JSON.stringify(message.body),
      headers: { "content-type": "application/json" },
    });
    if (!answer.ok && !REFUSED.has(answer.status)) throw new Error(answer.statusText);
    if (!answer.ok) {
      const text = await answer.text();
      let told = text;
      try { told = [JSON.parse(text).error, JSON.parse(text).hint].filter(Boolean).join("; "); } catch { /* plain text */ }
      this.refused(message, told);
    }
    localStorage.removeItem(message.key);
  }

  #tell() { this.changed(this.waiting().length, this.#lost); }
}
