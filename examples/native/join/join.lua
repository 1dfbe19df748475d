-- Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
--
--     luarocks install http lua-cjson   (Debian: lua5.1 lua-http lua-basexx lua-cjson)
--     USHER_PASSWORD=… lua5.1 join.lua http://127.0.0.1:8888 ada@example.org channel:ID
local json = require "cjson"
local request = require "http.request"
local websocket = require "http.websocket"

io.stdout:setvbuf "line"
local server, email, room = arg[1], arg[2], arg[3]

-- Returns the access token. A real app keeps the refresh token too, and renews with it.
local function sign_in()
  local login = request.new_from_uri(server .. "/api/auth/login")
  login.headers:upsert(":method", "POST")
  login.headers:append("content-type", "application/json")
  login:set_body(json.encode {email = email, password = os.getenv "USHER_PASSWORD", client = "native"})
  local headers, stream = assert(login:go(20))
  local body = assert(stream:get_body_as_string())
  assert(headers:get ":status" == "200", body)
  local signed_in = json.decode(body)
  print("signed in as " .. signed_in.user.name)
  return signed_in.access_token
end

local token = sign_in()
local socket = websocket.new_from_uri((server:gsub("^http", "ws")) .. "/ws", {"usher.v1"})
socket.request.headers:append("authorization", "Bearer " .. token)
assert(socket:connect(20))

local function send(frame)
  assert(socket:send(json.encode(frame)))
end

while true do
  -- A ping is answered only in here.
  local text, why = socket:receive()
  if not text then
    -- This library reports 1012 as 1002: what `closing` said counts.
    print(("closed %s %s"):format(socket.got_close_code or why, socket.got_close_message or ""))
    socket:close()
    break
  end
  local frame = json.decode(text)
  if frame.event == "joined" then
    send {event = "join", id = 1, data = {room = room}}
  elseif frame.event == "reply" and not frame.ok then
    print("refused " .. frame.error.code)
  elseif frame.event == "reply" and frame.id == 1 then
    print("joined " .. room)
    send {event = "message", id = 2, data = {room = room, data = "hello"}}
  elseif frame.event == "message" then
    print("received " .. frame.data.data)
  elseif frame.event == "closing" then
    local told = frame.data
    print(("closing %d %s, retry: %s"):format(told.code, told.reason, told.retry))
  end
end
