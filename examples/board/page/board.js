// The board's page. It is on another origin than Usher and than its backend.
const { usher: url, backend, room } = await (await fetch('config.json')).json();
const { createUsher } = await import(`${url}/client/usher.js`);

const at = (id) => document.getElementById(id);
const usher = createUsher({ url });
const shown = new Set();

function show({ id, by, text }) {
  if (shown.has(id)) return; // both live and loaded
  shown.add(id);
  const item = document.createElement('li');
  const name = document.createElement('b');
  name.textContent = by;
  item.append(name, text); // as text: nobody's post is markup
  at('posts').prepend(item);
}

async function load() {
  const { items } = await (await fetch(`${backend}/posts`)).json();
  items.forEach(show);
}

// A token for the backend alone: it opens nothing at Usher, and lives for 5 minutes. The page never
// sees the cookies that it is signed in with.
let kept = { token: '', until: 0 };
async function appToken() {
  if (performance.now() < kept.until) return kept.token;
  const answer = await usher.fetch('/api/auth/app-token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ audience: 'board' }),
  });
  if (!answer.ok) return '';
  const { token, expires_in: seconds } = await answer.json();
  kept = { token, until: performance.now() + (seconds - 30) * 1000 };
  return token;
}

at('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const answer = await fetch(`${backend}/posts`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${await appToken()}` },
    body: JSON.stringify({ text: at('text').value }),
  });
  at('note').textContent = answer.ok ? '' : `Not posted: ${answer.status}`;
  if (answer.ok) at('form').reset();
});

at('sign-out').addEventListener('click', async () => {
  await usher.signOut();
  location.reload();
});

// On Usher's own site it is the hosted page that signs people in, and a cookie that keeps it. To a page
// on another site browsers send no such cookie: it has a form, and tokens in its memory.
const elsewhere = location.hostname !== new URL(url).hostname;
at('sign-in').href = `${url}/sign-in?next=${encodeURIComponent(location.href)}`;
at('door').addEventListener('submit', async (event) => {
  event.preventDefault();
  const [email, password] = [at('email').value, at('password').value];
  try {
    const way = event.submitter.value; // signIn or signUp
    await welcome(await usher[way]({ email, password, name: email.split('@')[0] }));
  } catch (error) {
    at('note').textContent = error.message;
  }
});

async function welcome(me) {
  at('who').textContent = me?.name ?? '';
  at('sign-in').hidden = me !== null || elsewhere;
  at('door').hidden = me !== null || !elsewhere;
  at('sign-out').hidden = at('form').hidden = me === null;
  at('note').textContent = '';
  if (!me) return;
  usher.room(room).on('posted', ({ data }) => show(data));
  usher.room(room).on('counted', ({ data }) => { at('count').textContent = data.posts === 1 ? '1 post' : `${data.posts} posts`; });
  // What is published without "keep" is missed by who is away: back again, the page loads anew.
  usher.on('state', ({ name, retry }) => {
    document.body.dataset.state = name;
    if (name === 'joined') load();
    if (name === 'closed' && retry === 'login') location.reload();
  });
  await usher.connect();
}

await load();
await welcome(await usher.me());
