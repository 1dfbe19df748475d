# Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
#
#     gem install faye-websocket   (Debian: ruby-faye-websocket)
#     USHER_PASSWORD=… ruby join.rb http://127.0.0.1:8888 ada@example.org channel:ID
require 'eventmachine'
require 'faye/websocket'
require 'json'
require 'net/http'

$stdout.sync = true
server, email, room = ARGV

body = { email: email, password: ENV.fetch('USHER_PASSWORD'), client: 'native' }
answer = Net::HTTP.post(URI("#{server}/api/auth/login"), body.to_json, 'Content-Type' => 'application/json')
abort answer.body unless answer.is_a?(Net::HTTPOK)
# A real app keeps the refresh token too, and renews with it.
signed_in = JSON.parse(answer.body)
puts "signed in as #{signed_in['user']['name']}"

EM.run do
  socket = Faye::WebSocket::Client.new(
    "#{server.sub(/\Ahttp/, 'ws')}/ws", ['usher.v1'],
    headers: { 'Authorization' => "Bearer #{signed_in['access_token']}" }
  )
  socket.on :message do |event|
    case JSON.parse(event.data, symbolize_names: true)
    in { event: 'joined' }
      socket.send({ event: 'join', id: 1, data: { room: room } }.to_json)
    in { event: 'reply', ok: false, error: { code: } }
      puts "refused #{code}"
    in { event: 'reply', id: 1 }
      puts "joined #{room}"
      socket.send({ event: 'message', id: 2, data: { room: room, data: 'hello' } }.to_json)
    in { event: 'message', data: { data: } }
      puts "received #{data}"
    in { event: 'closing', data: { code:, reason:, retry: retry_class } }
      puts "closing #{code} #{reason}, retry: #{retry_class}"
    else
      # The other replies and events.
    end
  end
  socket.on :error do |event|
    warn event.message
  end
  # This library reports 1012 as 1002: what `closing` said counts.
  socket.on :close do |event|
    puts "closed #{event.code} #{event.reason}"
    EM.stop
  end
end
