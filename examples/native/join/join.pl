# Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
#
#     cpanm Mojolicious   (Debian: libmojolicious-perl)
#     USHER_PASSWORD=… perl join.pl http://127.0.0.1:8888 ada@example.org channel:ID
use Mojo::Base -strict;
use Mojo::IOLoop;
use Mojo::UserAgent;

STDOUT->autoflush(1);
my ($server, $email, $room) = @ARGV;
# By default it closes a socket that has been silent for 40 seconds.
my $agent = Mojo::UserAgent->new(inactivity_timeout => 0);

my $body = {email => $email, password => $ENV{USHER_PASSWORD}, client => 'native'};
my $answer = $agent->post("$server/api/auth/login" => json => $body)->result;
die $answer->body unless $answer->is_success;
# A real app keeps the refresh token too, and renews with it.
my $token = $answer->json->{access_token};
say 'signed in as ', $answer->json->{user}{name};

(my $url = "$server/ws") =~ s/^http/ws/;
$agent->websocket($url => {Authorization => "Bearer $token"} => ['usher.v1'] => sub {
  my (undef, $socket) = @_;
  die $socket->res->body unless $socket->is_websocket;
  $socket->on(json => sub {
    my (undef, $frame) = @_;
    my ($event, $data) = @$frame{qw(event data)};
    if ($event eq 'joined') {
      $socket->send({json => {event => 'join', id => 1, data => {room => $room}}});
    } elsif ($event eq 'reply' && !$frame->{ok}) {
      say "refused $frame->{error}{code}";
    } elsif ($event eq 'reply' && $frame->{id} == 1) {
      say "joined $room";
      $socket->send({json => {event => 'message', id => 2, data => {room => $room, data => 'hello'}}});
    } elsif ($event eq 'message') {
      say "received $data->{data}";
    } elsif ($event eq 'closing') {
      say "closing $data->{code} $data->{reason}, retry: $data->{retry}";
    }
  });
  $socket->on(finish => sub {
    my (undef, $code, $reason) = @_;
    say "closed $code ", $reason // '';
    Mojo::IOLoop->stop;
  });
});
Mojo::IOLoop->start;
