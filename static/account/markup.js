/** What the account area shows, before there is anything in it. */

export const MARKUP = `
<h1 tabindex="-1" id="signed-in-title">Account</h1>
<section class="part" aria-labelledby="sessions-title">
  <div class="panel-head">
    <h2 id="sessions-title" tabindex="-1">My sessions</h2>
    <button type="button" class="plain" id="sign-out-others" hidden>Sign out everywhere else</button>
  </div>
  <p class="form-error" id="sessions-error" role="alert"></p>
  <p class="unseen" id="sessions-status" role="status"></p>
  <ul class="entries" id="sessions"></ul>
</section>

<section class="part" id="linked" aria-labelledby="linked-title" hidden>
  <h2 id="linked-title" tabindex="-1">Linked accounts</h2>
  <p class="hint">Accounts elsewhere that sign you in here.</p>
  <p class="form-error" id="linked-error" role="alert"></p>
  <p class="form-done" id="linked-status" role="status"></p>
  <ul class="entries" id="linked-list"></ul>
  <div class="row" id="link-choices"></div>
  <form id="link-form" method="post" action="/" novalidate hidden>
    <input type="email" name="email" autocomplete="username" readonly hidden>
    <div class="field">
      <label for="link-password">Current password</label>
      <div class="with-button">
        <input id="link-password" name="current_password" type="password" autocomplete="current-password" required aria-describedby="link-hint link-password-error">
        <button type="button" class="plain reveal" aria-pressed="false" aria-controls="link-password">Show<span class="unseen"> current password</span></button>
      </div>
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
  </div>
</section>

<section class="part" id="password" aria-labelledby="password-title" hidden>
  <h2 id="password-title">Change password</h2>
  <form id="password-form" method="post" action="/" novalidate>
    <input type="email" name="email" autocomplete="username" readonly hidden>
    <div class="field" id="pw-current-field">
      <label for="pw-current">Current password</label>
      <div class="with-button">
        <input id="pw-current" name="current_password" type="password" autocomplete="current-password" required aria-describedby="pw-current-error">
        <button type="button" class="plain reveal" aria-pressed="false" aria-controls="pw-current">Show<span class="unseen"> current password</span></button>
      </div>
      <p class="field-error" id="pw-current-error"></p>
    </div>
    <div class="field">
      <label for="pw-new">New password</label>
      <div class="with-button">
        <input id="pw-new" name="new_password" type="password" autocomplete="new-password" required minlength="8" aria-describedby="pw-new-hint pw-new-error">
        <button type="button" class="plain reveal" aria-pressed="false" aria-controls="pw-new">Show<span class="unseen"> new password</span></button>
      </div>
      <p class="hint" id="pw-new-hint">All your other sessions will be signed out.</p>
      <div class="field-error" id="pw-new-error" data-advice></div>
    </div>
    <p class="form-error" role="alert"></p>
    <p class="form-done" role="status"></p>
    <button type="submit" id="pw-submit">Change password</button>
  </form>
</section>

<section class="part" id="my-account" aria-labelledby="my-account-title">
  <h2 id="my-account-title">My account</h2>
  <form id="name-form" method="post" action="/" novalidate>
    <div class="field">
      <label for="my-name">Name</label>
      <input id="my-name" name="name" autocomplete="name" required maxlength="100" aria-describedby="my-name-error">
      <p class="field-error" id="my-name-error"></p>
    </div>
    <p class="form-error" role="alert"></p>
    <p class="form-done" role="status"></p>
    <button type="submit">Change name</button>
  </form>
  <form id="email-form" method="post" action="/" novalidate>
    <div class="field">
      <label for="my-email">New e-mail address</label>
      <input id="my-email" name="email" type="email" autocomplete="email" required maxlength="254" aria-describedby="my-email-hint my-email-error">
      <p class="hint" id="my-email-hint"></p>
      <p class="field-error" id="my-email-error"></p>
    </div>
    <p class="form-error" role="alert"></p>
    <p class="form-done" role="status"></p>
    <button type="submit">Change address</button>
  </form>
  <p class="form-error" id="account-error" role="alert"></p>
  <div class="row ways">
    <button type="button" class="plain" id="export">Download my data</button>
    <button type="button" class="plain" id="leave">Delete my account</button>
  </div>
  <div id="leave-ask" hidden>
    <p id="leave-text" tabindex="-1">Your account, your sign-ins and your memberships are deleted for good. What you said in rooms stays, without your name.</p>
    <div class="row">
      <button type="button" id="leave-confirm">Delete for good</button>
      <button type="button" class="plain" id="leave-cancel">Keep my account</button>
    </div>
  </div>
</section>
`;
