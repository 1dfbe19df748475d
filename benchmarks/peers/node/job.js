"use strict";
/* What both Node servers do for a socket: the same checks as servers/job.py. */

const crypto = require("node:crypto");
const fs = require("node:fs");
const Database = require("libsql");
const jwt = require("jsonwebtoken");
const redis = require("redis");

const { PEER_SECRET, PEER_ROOM, PEER_DATABASE, PEER_REDIS, PEER_PORT, PEER_MEMORY } = process.env;
const ROLES = ["user", "admin"];
const LEASE_SECONDS = 60;

class Job {
  static async start() {
    const job = new Job();
    job.redis = redis.createClient({ socket: { path: PEER_REDIS } });
    await job.redis.connect();
    const users = new Database(PEER_DATABASE, { readonly: true });
    job.user = users.prepare("SELECT id, name, role, disabled FROM users WHERE id = ?");
    return job;
  }

  /** Check a token and write the session. Throws. */
  async join(token) {
    const claims = jwt.verify(token, PEER_SECRET, { algorithms: ["HS256"] });
    if ((await this.redis.get(`revoked:${claims.jti}`)) !== null) throw new Error("revoked");
    const user = this.user.get(claims.sub);
    if (!user || user.disabled || !ROLES.includes(user.role)) throw new Error("no such user");
    const person = {
      id: user.id,
      name: user.name,
      expiresAt: claims.exp,
      session: crypto.randomBytes(16).toString("base64url"),
      rooms: [`user:${user.id}`, PEER_ROOM],
    };
    const session = JSON.stringify({ user: user.id, login: claims.sid, since: Date.now() / 1000 });
    await this.redis.set(`session:${person.session}`, session, { EX: LEASE_SECONDS });
    return person;
  }

  leave(person) {
    return this.redis.del(`session:${person.session}`);
  }
}

/** What the members of a room are told. */
function message(person, room, data) {
  const now = Date.now();
  const from = { id: person.id, name: person.name };
  return { id: `${now}-0`, room, from, data, sent_at: now / 1000 };
}

/** The data of a reply; an expired token gets none. */
function answer(person) {
  if (person.expiresAt < Date.now() / 1000) throw new Error("expired");
  return { ok: true };
}

function listen(server) {
  // What is alive: V8's heap grows ahead and shrinks late, so its resident memory tells little.
  process.on("SIGUSR2", () => {
    global.gc();
    const { heapUsed, external } = process.memoryUsage();
    fs.writeFileSync(`${PEER_MEMORY}.new`, String(heapUsed + external));
    fs.renameSync(`${PEER_MEMORY}.new`, PEER_MEMORY);
  });
  const backlog = 2048;
  server.listen({ port: Number(PEER_PORT), host: "127.0.0.1", backlog }, () => {
    console.log(`http://127.0.0.1:${PEER_PORT}`);
  });
}

module.exports = { Job, message, answer, listen };
