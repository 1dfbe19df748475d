"use strict";
/* Node `ws`: the checks before the upgrade, and a loop of `send` for a room. */

const http = require("node:http");
const { WebSocketServer } = require("ws");
const { Job, message, answer, listen } = require("./job.js");

const PROTOCOL = "usher.v1";
const BEARER = "usher.bearer.";
const rooms = new Map();

function bearer(request) {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",");
  return offered.map((one) => one.trim()).find((one) => one.startsWith(BEARER)).slice(BEARER.length);
}

function enter(room, socket) {
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
}

function leave(room, socket) {
  rooms.get(room).delete(socket);
  if (rooms.get(room).size === 0) rooms.delete(room);
}

function take(socket, person, text) {
  const asked = JSON.parse(text);
  if (asked.event === "message") {
    const { room, data } = asked.data;
    if (!person.rooms.includes(room)) throw new Error("not in this room");
    const told = JSON.stringify({ event: "message", data: message(person, room, data) });
    const frame = Buffer.from(told);
    for (const member of rooms.get(room)) member.send(frame, { binary: false });
  }
  socket.send(JSON.stringify({ event: "reply", id: asked.id, data: answer(person) }));
}

async function main() {
  const job = await Job.start();
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => PROTOCOL });
  const server = http.createServer((_, response) => response.writeHead(404).end());
  server.on("upgrade", async (request, connection, head) => {
    connection.on("error", () => connection.destroy());
    let person;
    try {
      person = await job.join(bearer(request));
    } catch {
      connection.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, connection, head, (socket) => {
      for (const room of person.rooms) enter(room, socket);
      const { session, id, name, expiresAt } = person;
      const data = { session_id: session, user: { id, name }, rooms: person.rooms, expires_at: expiresAt };
      socket.on("error", () => socket.terminate());
      socket.on("message", (text) => {
        try {
          take(socket, person, text);
        } catch {
          socket.close(4401);
        }
      });
      socket.on("close", () => {
        for (const room of person.rooms) leave(room, socket);
        job.leave(person);
      });
      socket.send(JSON.stringify({ event: "joined", data }));
    });
  });
  listen(server);
}

main();
