// Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
//
//     mcs Join.cs -r:System.Net.Http -r:System.Web.Extensions && \
//       USHER_PASSWORD=… mono Join.exe http://127.0.0.1:8888 ada@example.org channel:ID
//
// For Mono 6 (Debian: mono-mcs). In .NET, replace JavaScriptSerializer by System.Text.Json; the rest is the same.
using System;
using System.IO;
using System.Net.Http;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using System.Web.Script.Serialization;
using Json = System.Collections.Generic.Dictionary<string, object>;

class Join {
    static readonly JavaScriptSerializer serializer = new JavaScriptSerializer();
    readonly ClientWebSocket socket = new ClientWebSocket();
    readonly string room;

    Join(string room) { this.room = room; }

    static void Main(string[] args) => Run(args[0], args[1], args[2]).GetAwaiter().GetResult();

    static async Task Run(string server, string email, string room) {
        var body = new Json {
            ["email"] = email, ["password"] = Environment.GetEnvironmentVariable("USHER_PASSWORD"), ["client"] = "native",
        };
        var http = new HttpClient();
        var content = new StringContent(serializer.Serialize(body), Encoding.UTF8, "application/json");
        var answer = await http.PostAsync(server + "/api/auth/login", content);
        var text = await answer.Content.ReadAsStringAsync();
        if (!answer.IsSuccessStatusCode) throw new InvalidOperationException(text);
        // A real app keeps the refresh token too, and renews with it.
        var signedIn = serializer.Deserialize<Json>(text);
        Console.WriteLine("signed in as " + ((Json)signedIn["user"])["name"]);
        await new Join(room).Talk(new Uri("ws" + server.Substring("http".Length) + "/ws"), (string)signedIn["access_token"]);
    }

    async Task Talk(Uri url, string token) {
        socket.Options.SetRequestHeader("Authorization", "Bearer " + token);
        await socket.ConnectAsync(url, CancellationToken.None);
        string told = null;
        try {
            string text;
            while ((text = await Receive()) != null) {
                var frame = serializer.Deserialize<Json>(text);
                if ((string)frame["event"] == "closing") told = (string)((Json)frame["data"])["reason"];
                await Take(frame);
            }
        } catch (WebSocketException) {
            if (told == null) throw;
            Console.WriteLine("closed " + told); // 1012 is an error to this library
            return;
        }
        Console.WriteLine("closed " + (int)socket.CloseStatus + " " + socket.CloseStatusDescription);
        await socket.CloseOutputAsync(socket.CloseStatus.Value, "", CancellationToken.None);
    }

    /// <summary>The next message, or null at the close.</summary>
    async Task<string> Receive() {
        var message = new MemoryStream();
        var part = new ArraySegment<byte>(new byte[16384]);
        while (true) {
            var got = await socket.ReceiveAsync(part, CancellationToken.None);
            if (got.MessageType == WebSocketMessageType.Close) return null;
            message.Write(part.Array, 0, got.Count);
            if (got.EndOfMessage) return Encoding.UTF8.GetString(message.ToArray());
        }
    }

    async Task Take(Json frame) {
        var data = frame.ContainsKey("data") ? frame["data"] as Json : null;
        switch ((string)frame["event"]) {
            case "joined":
                await Send("join", 1, new Json { ["room"] = room });
                break;
            case "reply":
                if (!(bool)frame["ok"]) {
                    Console.WriteLine("refused " + ((Json)frame["error"])["code"]);
                } else if ((int)frame["id"] == 1) {
                    Console.WriteLine("joined " + room);
                    await Send("message", 2, new Json { ["room"] = room, ["data"] = "hello" });
                }
                break;
            case "message":
                Console.WriteLine("received " + data["data"]);
                break;
            case "closing":
                Console.WriteLine("closing " + data["code"] + " " + data["reason"] + ", retry: " + data["retry"]);
                break;
        }
    }

    Task Send(string name, int id, Json data) {
        var text = serializer.Serialize(new Json { ["event"] = name, ["id"] = id, ["data"] = data });
        var bytes = new ArraySegment<byte>(Encoding.UTF8.GetBytes(text));
        return socket.SendAsync(bytes, WebSocketMessageType.Text, true, CancellationToken.None);
    }
}
