# Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
#
#     USHER_PASSWORD=… tclsh join.tcl http://127.0.0.1:8888 ada@example.org channel:ID
#
# Tcl 8.6 with tcllib. For https load package tls and register it with http::register and websocket's.
package require http
package require json
package require json::write
package require websocket

fconfigure stdout -buffering line
json::write indented false
lassign $argv server email room

proc frame {event id args} {
    set data [json::write object {*}$args]
    return [json::write object event [json::write string $event] id $id data $data]
}

proc take {socket frame} {
    global room
    set data [expr {[dict exists $frame data] ? [dict get $frame data] : {}}]
    switch [dict get $frame event] {
        joined { websocket::send $socket text [frame join 1 room [json::write string $room]] }
        reply {
            if {![dict get $frame ok]} {
                puts "refused [dict get $frame error code]"
            } elseif {[dict get $frame id] == 1} {
                puts "joined $room"
                websocket::send $socket text [frame message 2 room [json::write string $room] \
                    data [json::write string hello]]
            }
        }
        message { puts "received [dict get $data data]" }
        closing { puts "closing [dict get $data code] [dict get $data reason], retry: [dict get $data retry]" }
    }
}

proc told {socket type what} {
    switch $type {
        text { take $socket [json::json2dict $what] }
        close { puts "closed $what" }
        error { puts stderr $what; set ::done 1 }
        disconnect { set ::done 0 }
    }
}

set body [json::write object email [json::write string $email] \
    password [json::write string $env(USHER_PASSWORD)] client [json::write string native]]
set answer [http::geturl $server/api/auth/login -type application/json -query $body -timeout 20000]
if {[http::ncode $answer] != 200} {
    puts stderr [http::data $answer]
    exit 1
}
# A real app keeps the refresh token too, and renews with it.
set signedIn [json::json2dict [http::data $answer]]
http::cleanup $answer
puts "signed in as [dict get $signedIn user name]"

websocket::open ws[string range $server 4 end]/ws told \
    -headers [list Authorization "Bearer [dict get $signedIn access_token]"]
vwait done
exit $done
