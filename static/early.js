/* Loaded beside the page's module where somebody is signed in. It is small and comes first, so it
   asks for what the first area shows while the rest is still on its way (api.js takes it over). */
if (!location.hash.startsWith('#/') || location.hash.startsWith('#/account')) {
  const ask = (path) => [path, fetch(`.${path}`).catch(() => null)];
  globalThis.usherEarly = new Map(['/api/sessions', '/api/sessions?ended=true'].map(ask));
}
