/** What comes next for whoever has just become the administrator of an empty installation. */

import { byId, fromMarkup } from '../dom.js';
import { keptAs } from '../here.js';

const KEY = keptAs('usher.first-steps');

const MARKUP = `
<section class="steps" aria-labelledby="steps-title">
  <h2 id="steps-title">You are the administrator</h2>
  <p>This is your installation now. Three steps, in any order, and it works for your app.</p>
  <ol>
    <li><a href="#/admin/connect">Connect your app</a><p>Snippets with this server's address, and a key for your backend.</p></li>
    <li><a href="#/rooms">Make a room</a><p>Say who may enter it, and talk there to see that it works.</p></li>
    <li><a href="#/admin/users">Invite people</a><p>They get a link. You choose who may sign up by themselves.</p></li>
  </ol>
  <div class="row"><button type="button" class="plain small" id="steps-done">Got it</button></div>
</section>`;

/** @param {import('../app.js').App} app */
export function offerFirstSteps(app) {
  if (app.isFirst) remember(app.user.id);
  if (recalled() !== app.user.id || app.user.role !== 'admin') return;
  const place = byId('welcome');
  place.replaceChildren(fromMarkup(MARKUP));
  place.hidden = false;
  byId('steps-done').addEventListener('click', () => {
    remember('');
    place.hidden = true;
    byId('signed-in-title').focus();
  });
}

/** @returns {string} the user whose steps are still to be shown, in this browser */
function recalled() {
  try {
    return localStorage.getItem(KEY) ?? '';
  } catch {
    return ''; // storage is blocked
  }
}

/** @param {string} userId */
function remember(userId) {
  try {
    if (userId) localStorage.setItem(KEY, userId);
    else localStorage.removeItem(KEY);
  } catch {} // as above
}
