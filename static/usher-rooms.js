/**
 * What was said while the socket was away: read from the rooms' logs and handed on in order,
 * each message once.
 */

/** @typedef {{ event: string, data: { id: string, room: string } }} MessageFrame */

/** @param {string} id @returns {[number, number]} */
const order = (id) => /** @type {[number, number]} */ (id.split('-').map(Number));

/** @param {string} id @param {string | undefined} than */
function newer(id, than) {
  if (than === undefined) return true;
  const [ms, number] = order(id);
  const [thanMs, thanNumber] = order(than);
  return ms > thanMs || (ms === thanMs && number > thanNumber);
}

export class RoomLogs {
  /** @type {Map<string, string>} the last message of each room that was handed on */
  #last = new Map();
  /** @type {Map<string, number>} when each room was first joined, ms of the server's clock */
  #since = new Map();
  /** @type {Map<string, MessageFrame[]>} live messages of rooms that are being caught up on */
  #held = new Map();
  #ask;
  #deliver;
  #gap;
  #joined;

  /**
   * @param {(data: object) => Promise<any>} ask sends `history` and gives its reply
   * @param {(frame: MessageFrame) => void} deliver
   * @param {(room: string) => void} gap told when messages of a room were missed for good
   * @param {() => boolean} joined whether the socket that is read over is still there
   */
  constructor(ask, deliver, gap, joined) {
    this.#ask = ask;
    this.#deliver = deliver;
    this.#gap = gap;
    this.#joined = joined;
  }

  /** A live message. @param {MessageFrame} frame */
  heard(frame) {
    const held = this.#held.get(frame.data.room);
    if (held) held.push(frame);
    else this.#take(frame);
  }

  /** A socket has joined: what comes now in rooms that are known waits for what was missed.
   *  @param {string[]} rooms */
  hold(rooms) {
    for (const room of rooms) if (this.#since.has(room)) this.#held.set(room, []);
  }

  /** Rooms that are joined: from now on nothing of them is to be missed.
   *  @param {string[]} rooms  @param {number} now ms of the server's clock */
  entered(rooms, now) {
    for (const room of rooms) if (!this.#since.has(room)) this.#since.set(room, now);
  }

  /** Reads what was missed in the rooms that are held.
   *  @param {string[]} rooms  @param {number} now ms of the server's clock */
  async catchUp(rooms, now) {
    this.entered(rooms, now);
    for (const room of [...this.#held.keys()]) {
      try {
        await this.#read(room);
      } catch (error) {
        if (!this.#joined()) { // what was held is in the log as well, behind what was missed
          this.#held.delete(room);
          continue;
        }
        if (/** @type {any} */ (error).code !== 'forbidden') this.#gap(room);
      }
      const held = this.#held.get(room) ?? [];
      this.#held.delete(room);
      held.forEach((frame) => this.#take(frame));
    }
  }

  /** Another user is here: nothing of the one before counts. */
  forget() {
    this.#last.clear();
    this.#since.clear();
    this.#held.clear();
  }

  /** @param {string} room */
  async #read(room) {
    const since = /** @type {number} */ (this.#since.get(room));
    let after = this.#last.get(room);
    let more = true;
    for (let first = true; more; first = false) {
      const page = await this.#ask(after === undefined ? { room } : { room, after });
      const { messages } = page;
      const reaches = messages.length > 0 && order(messages[0].id)[0] < since;
      if (first && !page.complete && !(after === undefined && reaches)) this.#gap(room);
      for (const data of messages) {
        if (order(data.id)[0] >= since) this.#take({ event: 'message', data });
      }
      more = page.more && messages.length > 0;
      after = messages.at(-1)?.id;
    }
  }

  /** @param {MessageFrame} frame */
  #take(frame) {
    const { id, room } = frame.data;
    if (!newer(id, this.#last.get(room))) return;
    this.#last.set(room, id);
    this.entered([room], order(id)[0]);
    this.#deliver(frame);
  }
}
