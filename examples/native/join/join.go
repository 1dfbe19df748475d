// Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
//
//	go get github.com/gorilla/websocket   (Debian: golang-github-gorilla-websocket-dev)
//	USHER_PASSWORD=… go run join.go http://127.0.0.1:8888 ada@example.org channel:ID
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/gorilla/websocket"
)

type object = map[string]any

type frame struct {
	Event string
	ID    int
	OK    bool
	Error struct{ Code string }
	Data  struct {
		Code          int
		Reason, Retry string
		Data          any
	}
}

// signIn returns the access token. A real app keeps the refresh token too, and renews with it.
func signIn(server, email string) string {
	body, _ := json.Marshal(object{"email": email, "password": os.Getenv("USHER_PASSWORD"), "client": "native"})
	answer, err := http.Post(server+"/api/auth/login", "application/json", bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		problem, _ := io.ReadAll(answer.Body)
		log.Fatalf("%s: %s", answer.Status, problem)
	}
	var signedIn struct {
		User        struct{ Name string }
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&signedIn); err != nil {
		log.Fatal(err)
	}
	fmt.Println("signed in as", signedIn.User.Name)
	return signedIn.AccessToken
}

func main() {
	server, email, room := os.Args[1], os.Args[2], os.Args[3]
	headers := http.Header{"Authorization": {"Bearer " + signIn(server, email)}}
	url := "ws" + strings.TrimPrefix(server, "http") + "/ws"
	socket, answer, err := websocket.DefaultDialer.Dial(url, headers)
	if answer != nil && answer.StatusCode != http.StatusSwitchingProtocols {
		problem, _ := io.ReadAll(answer.Body)
		log.Fatalf("%s: %s", answer.Status, problem)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer socket.Close()
	for {
		var got frame
		if err := socket.ReadJSON(&got); err != nil {
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				fmt.Println("closed", closed.Code, closed.Text)
				return
			}
			log.Fatal(err)
		}
		switch {
		case got.Event == "joined":
			socket.WriteJSON(object{"event": "join", "id": 1, "data": object{"room": room}})
		case got.Event == "reply" && !got.OK:
			fmt.Println("refused", got.Error.Code)
		case got.Event == "reply" && got.ID == 1:
			fmt.Println("joined", room)
			socket.WriteJSON(object{"event": "message", "id": 2, "data": object{"room": room, "data": "hello"}})
		case got.Event == "message":
			fmt.Println("received", got.Data.Data)
		case got.Event == "closing":
			fmt.Printf("closing %d %s, retry: %s\n", got.Data.Code, got.Data.Reason, got.Data.Retry)
		}
	}
}
