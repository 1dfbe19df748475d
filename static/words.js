/** What the states and close reasons are called on the page. */

/** @type {Record<string, string>} by reason */
const REASONS = {
  message_too_big: 'A frame was larger than the server takes (64 KiB).',
  service_restart: 'The server is restarting.',
  bad_request: 'The server could not read what this page sent.',
  unauthenticated: 'The sign-in is not valid any more.',
  forbidden: 'The server does not let this account connect.',
  join_timeout: 'Joining took too long.',
  replaced: 'The same token was used for another connection.',
  session_revoked: 'This session was signed out.',
  slow_consumer: 'This page could not keep up with what was sent.',
  token_expired: 'The access token expired.',
  rate_limited: 'Too many attempts in a short time.',
  unavailable: 'The server is not available just now.',
  unreachable: 'The server could not be reached.',
  heartbeat_timeout: 'The connection went silent.',
  closed_by_client: 'You disconnected.',
  misuse: 'This page uses the connection in a way that cannot work.',
};

/** @param {{code: number, reason: string}} why  @returns {string} */
export function reasonText({ code, reason }) {
  const text = REASONS[reason] ?? 'The connection was lost.';
  return code === 1000 ? text : `${text} (${[code, reason].filter(Boolean).join(' ')})`;
}

/** @param {import('./usher-types.js').UsherState} state  @returns {string} */
export function stateText(state) {
  switch (state.name) {
    case 'connecting':
      return state.attempt ? `Connecting, attempt ${state.attempt + 1}…` : 'Connecting…';
    case 'joined': return 'Connected';
    case 'refreshing':
      return state.live ? 'Connected, renewing the token…' : 'Renewing the sign-in…';
    case 'waiting': return state.offline ? 'Offline' : 'Waiting';
    case 'closed': return 'Disconnected';
    default: return 'Not connected';
  }
}

/** Why the sign-in form is shown, calmly.
 *  @param {string} reason  @param {string} [provider] what the one is called that vouched for the
 *    session  @returns {{title: string, text: string}} */
export function goodbye(reason, provider) {
  if (reason === 'signed_out') {
    return { title: 'You are signed out', text: provider
      ? `You may still be signed in at ${provider}.` : 'You can sign in again at any time.' };
  }
  if (reason === 'account_deleted') {
    return { title: 'Your account is deleted', text: 'Nobody can sign in to it any more.' };
  }
  if (reason === 'unlinked') {
    return { title: 'You are signed out', text: `${provider} is unlinked, and this session came `
      + 'of it. Sign in another way to continue.' };
  }
  if (reason === 'unreachable') {
    return { title: 'The server could not be reached', text: 'Try again in a moment.' };
  }
  if (reason === 'session_revoked') {
    const by = ['another tab or device', ...(provider ? [provider] : []), 'a new password'];
    return { title: 'You were signed out', text: 'This session was ended from elsewhere: '
      + `${by.join(', ')}, or an administrator. Sign in again to continue.` };
  }
  return { title: 'Please sign in again',
    text: 'Your sign-in has run out or is not valid any more.' };
}

/** @type {Record<string, string>} by the reason that the server keeps */
const ENDS = {
  signed_out: 'Signed out on another device',
  signed_out_by_admin: 'Signed out by an administrator',
  logout: 'Signed out on that device',
  password_changed: 'Signed out by a new password',
  password_reset: 'Signed out by a new password',
  session_limit: 'Made way for a newer sign-in',
  refresh_reuse: 'Ended: its token was used twice',
  unlinked: 'Its linked account was unlinked',
  disabled: 'The account was disabled',
  role_changed: 'Ended as your role changed',
  email_verified: 'Ended when the address was confirmed',
  provider_logout: 'Signed out at the provider',
  provider_session_ended: 'Signed out at the provider',
};

/** What ended a session.  @param {string} reason  @returns {string} */
export function endText(reason) {
  return ENDS[reason] ?? `Ended: ${reason.replaceAll('_', ' ')}`;
}

const BY_PROVIDER = 'oauth:';

/** @param {string} [method] of a login session
 *  @returns {string} the provider that it came of, or '' */
export function providerOf(method = '') {
  return method.startsWith(BY_PROVIDER) ? method.slice(BY_PROVIDER.length) : '';
}

/** A provider that the server does not name any more.  @param {string} name  @returns {string} */
export function usualTitle(name) {
  return name.replaceAll('-', ' ').replace(/(?<![a-z])[a-z]/g, (letter) => letter.toUpperCase());
}

/** A browser's User-Agent in a few words; anything else stays as it is.
 *  @param {string} agent  @returns {string} */
export function deviceText(agent) {
  if (!agent) return 'Unknown device';
  if (!agent.startsWith('Mozilla/')) return agent;
  const find = (/** @type {[RegExp, string][]} */ names) => (
    names.find(([pattern]) => pattern.test(agent))?.[1]);
  const browser = find([[/Edg\//, 'Edge'], [/OPR\//, 'Opera'], [/Firefox\/|FxiOS\//, 'Firefox'],
    [/Chrome\/|CriOS\//, 'Chrome'], [/Safari\//, 'Safari']]);
  const system = find([[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'],
    [/Mac OS X/, 'macOS'], [/CrOS/, 'ChromeOS'], [/Linux/, 'Linux']]);
  return [browser ?? 'Browser', ...(system ? [system] : [])].join(' on ');
}
