/** What the account area shows, before there is anything in it. */

/** @param {string} id  @param {string} title  @param {string} hint  @param {string} body
 *  @param {string} [attributes] */
const part = (id, title, hint, body, attributes = '') => `
<section class="part" id="${id}" aria-labelledby="${id}-title" ${attributes}>
  <div class="part-head">
    <h2 id="${id}-title" tabindex="-1">${title}</h2>
    <p class="hint">${hint}</p>
  </div>
  <div class="part-body">${body}</div>
</section>`;

/** A password with a button to look at it.
 *  @param {string} id  @param {string} name  @param {string} label  @param {string} complete
 *  @param {string} about ids of what describes it  @param {string} [more] */
const password = (id, name, label, complete, about, more = '') => `
<label for="${id}">${label}</label>
<div class="with-button">
  <input id="${id}" name="${name}" type="password" autocomplete="${complete}" required aria-describedby="${about}" ${more}>
  <button type="button" class="plain reveal" aria-pressed="false" aria-controls="${id}">Show<span class="unseen"> ${label.toLowerCase()}</span></button>
</div>`;

const NOTES = '<p class="form-error" role="alert"></p><p class="form-done" role="status"></p>';
const WHOSE = '<input type="email" name="email" autocomplete="username" readonly hidden>';

export const MARKUP = `
<header class="me">
  <span class="face" id="me-face" aria-hidden="true"></span>
  <div>
    <h1 tabindex="-1" id="signed-in-title">Account</h1>
    <p class="quiet"><span id="me-name"></span> <span id="me-email"></span> <span class="tag" id="me-role" hidden>Administrator</span></p>
  </div>
</header>
<div id="welcome" hidden></div>
${part('devices', 'Where you are signed in', 'Each browser and app of yours. Signing one out cuts its connections at once.', `
  <p class="form-error" id="sessions-error" role="alert"></p>
  <p class="unseen" id="sessions-status" role="status"></p>
  <ul class="devices" id="sessions"></ul>
  <div class="row">
    <button type="button" class="plain" id="sign-out-others" hidden>Sign out everywhere else</button>
  </div>
  <details id="ended" hidden>
    <summary>Recently ended</summary>
    <ul class="devices" id="ended-list"></ul>
  </details>`)}
${part('factors', 'Sign-in security', 'A second step, and passkeys in place of a password.', '')}
${part('password', 'Change password', 'Changing it signs out all your other devices.', `
  <form id="password-form" method="post" action="./" novalidate>
    ${WHOSE}
    <div class="field" id="pw-current-field">
      ${password('pw-current', 'current_password', 'Current password', 'current-password', 'pw-current-error')}
      <p class="field-error" id="pw-current-error"></p>
    </div>
    <div class="field">
      ${password('pw-new', 'new_password', 'New password', 'new-password', 'pw-new-hint pw-new-error', 'minlength="8"')}
      <p class="hint" id="pw-new-hint"></p>
      <div class="field-error" id="pw-new-error" data-advice></div>
    </div>
    ${NOTES}
    <button type="submit" class="plain" id="pw-submit">Change password</button>
  </form>`, 'hidden')}
${part('linked', 'Linked accounts', 'Accounts elsewhere that sign you in here.', `
  <p class="form-error" id="linked-error" role="alert"></p>
  <p class="form-done" id="linked-status" role="status"></p>
  <ul class="entries" id="linked-list"></ul>
  <div class="row" id="link-choices"></div>
  <form id="link-form" method="post" action="./" novalidate hidden>
    ${WHOSE}
    <div class="field">
      ${password('link-password', 'current_password', 'Current password', 'current-password', 'link-hint link-password-error')}
      <p class="hint" id="link-hint">A linked account is a way into this one, so it has to be you who adds it.</p>
      <p class="field-error" id="link-password-error"></p>
    </div>
    <p class="form-error" role="alert"></p>
    <div class="row">
      <button type="submit" id="link-submit"></button>
      <button type="button" class="plain" id="link-cancel">Cancel</button>
    </div>
  </form>
  <div id="link-again" hidden>
    <p id="link-again-text" tabindex="-1"></p>
    <div class="row" id="link-again-ways"></div>
  </div>`, 'hidden')}
${part('profile', 'Name and address', 'Your name is what others see in rooms.', `
  <form id="name-form" method="post" action="./" novalidate>
    <div class="field">
      <label for="my-name">Name</label>
      <input id="my-name" name="name" autocomplete="name" required maxlength="100" aria-describedby="my-name-error">
      <p class="field-error" id="my-name-error"></p>
    </div>
    ${NOTES}
    <button type="submit" class="plain">Change name</button>
  </form>
  <form id="email-form" method="post" action="./" novalidate>
    <div class="field">
      <label for="my-email">New e-mail address</label>
      <input id="my-email" name="email" type="email" autocomplete="email" required maxlength="254" aria-describedby="my-email-hint my-email-error">
      <p class="hint" id="my-email-hint"></p>
      <p class="field-error" id="my-email-error"></p>
    </div>
    ${NOTES}
    <button type="submit" class="plain">Change address</button>
  </form>`)}
${part('my-data', 'Your data', 'Everything that is kept about you, as a file; and the way out.', `
  <p class="form-error" id="account-error" role="alert"></p>
  <div class="row ways">
    <button type="button" class="plain" id="export">Download my data</button>
    <button type="button" class="plain bad" id="leave">Delete my account</button>
  </div>
  <div id="leave-ask" hidden>
    <p id="leave-text" tabindex="-1">Your account, your sign-ins and your memberships are deleted for good. What you said in rooms stays, without your name.</p>
    <div class="actions">
      <button type="button" class="danger" id="leave-confirm">Delete for good</button>
      <button type="button" class="plain" id="leave-cancel">Keep my account</button>
    </div>
  </div>`)}
`;
