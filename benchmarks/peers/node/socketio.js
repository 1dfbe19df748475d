"use strict";
/* Node socket.io: rooms and acknowledgements are its own. */

const http = require("node:http");
const { Server } = require("socket.io");
const { Job, message, answer, listen } = require("./job.js");

const PING_MS = 300_000;

async function main() {
  const job = await Job.start();
  const server = http.createServer();
  const io = new Server(server, {
    transports: ["websocket"],
    pingInterval: PING_MS,
    serveClient: false,
  });
  io.use(async (socket, next) => {
    try {
      socket.data.person = await job.join(socket.handshake.auth.token);
      next();
    } catch {
      next(new Error("refused"));
    }
  });
  io.on("connection", (socket) => {
    const person = socket.data.person;
    socket.join(person.rooms);
    socket.on("heartbeat", (asked, reply) => reply({ id: asked.id, data: answer(person) }));
    socket.on("message", ({ room, data }) => {
      if (person.rooms.includes(room)) io.to(room).emit("message", message(person, room, data));
    });
    socket.on("disconnect", () => job.leave(person));
  });
  listen(server);
}

main();
