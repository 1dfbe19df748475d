/** What the console shows, before there is anything in it. */

export const MARKUP = `
<h1 tabindex="-1">Console</h1>
<section class="part" aria-labelledby="socket-title">
  <div class="panel-head">
    <h2 id="socket-title">Connection</h2>
    <button type="button" class="plain" id="toggle-socket">Disconnect</button>
  </div>
  <p class="quiet" id="state-detail" hidden></p>
  <dl class="facts" id="connection-facts">
    <div><dt>Signed in as</dt><dd id="fact-user">–</dd></div>
    <div><dt>Role</dt><dd id="fact-role">–</dd></div>
    <div><dt>Socket</dt><dd class="code" id="fact-session">–</dd></div>
    <div><dt>Rooms</dt><dd class="code" id="fact-rooms"><span id="first-rooms">–</span><details id="more-rooms" hidden><summary></summary><span></span></details></dd></div>
    <div class="wide"><dt>Token expires in</dt><dd id="fact-expires">–</dd><dd class="bar-box" aria-hidden="true"><progress id="expires-bar" max="1" value="0"></progress></dd></div>
  </dl>
  <div id="watch">
    <div id="machine-place"></div>
    <div id="round-trips"><h3>Round trip of a heartbeat</h3></div>
  </div>
</section>

<section class="part" aria-labelledby="send-title">
  <h2 id="send-title">Send an event</h2>
  <form id="composer" method="post" action="./" novalidate>
    <div class="field">
      <label for="event">Event</label>
      <input id="event" name="event" class="code" list="events" value="heartbeat" autocomplete="off" autocapitalize="off" spellcheck="false" required aria-describedby="event-error">
      <p class="field-error" id="event-error"></p>
      <datalist id="events"></datalist>
    </div>
    <div class="field">
      <label for="data">Data, as JSON <span class="quiet">(may be empty)</span></label>
      <textarea id="data" name="data" class="code" rows="3" autocomplete="off" autocapitalize="off" spellcheck="false" aria-describedby="data-error"></textarea>
      <p class="field-error" id="data-error"></p>
    </div>
    <div class="row">
      <button type="submit">Send</button>
      <label class="check"><input type="checkbox" name="reply" checked> Wait for the reply</label>
    </div>
  </form>
  <div id="reply" role="status"></div>
</section>

<section class="part" aria-labelledby="frames-title">
  <div class="panel-head">
    <h2 id="frames-title">Frames</h2>
    <div class="row">
      <label class="check"><input type="checkbox" id="show-heartbeats" checked> Heartbeats</label>
      <button type="button" class="plain" id="pause-frames" aria-pressed="false">Pause</button>
      <button type="button" class="plain" id="clear-frames">Clear</button>
    </div>
  </div>
  <div class="row" id="frames-find">
    <label class="unseen" for="frames-filter">Find in frames</label>
    <input id="frames-filter" type="search" placeholder="Find an event, a room, a word" autocomplete="off" autocapitalize="off" spellcheck="false">
    <label class="unseen" for="frames-direction">Direction</label>
    <select id="frames-direction"><option value="">Sent and received</option><option value="out">Sent</option><option value="in">Received</option></select>
  </div>
  <p class="quiet" id="frames-note"></p>
  <ol class="frames" id="frames" tabindex="0" aria-labelledby="frames-title"></ol>
</section>

<section class="part" aria-labelledby="credentials-title">
  <h2 id="credentials-title">Tokens and tickets</h2>
  <h3>This page’s token</h3>
  <p class="hint">It is in a cookie that no script can read. The server tells what it says, without the token itself.</p>
  <div id="own-claims"></div>
  <h3>Another token</h3>
  <p class="hint">Paste one of your app to see what it says. It is read here, sent nowhere, and the field is emptied.</p>
  <form id="jwt-form" method="post" action="./" novalidate>
    <div class="field">
      <label for="jwt">Access token or app token</label>
      <input id="jwt" name="jwt" type="password" class="code" autocomplete="off" spellcheck="false" aria-describedby="jwt-error">
      <p class="field-error" id="jwt-error"></p>
    </div>
    <button type="submit" class="plain">Take apart</button>
  </form>
  <div id="jwt-parts" role="status"></div>
  <h3>Ticket</h3>
  <p class="hint">A random string that opens one socket of this session. It says nothing by itself: the server keeps a hash of it, takes it once, and forgets it when its time is over.</p>
  <form id="ticket-form" method="post" action="./" novalidate><button type="submit" class="plain">Make a ticket</button></form>
  <p class="quiet" id="ticket-made" hidden></p>
</section>
`;
