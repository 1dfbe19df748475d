/* Loaded beside the page's module where somebody is signed in. It is small and comes first, so it
   asks for what the first area shows while the rest is still on its way (api.js takes it over).
   The sessions themselves come with the page. */
if (!location.hash.startsWith('#/') || location.hash.startsWith('#/account')) {
  const path = '/api/sessions?ended=true';
  (globalThis.usherEarly ??= new Map()).set(path, fetch(`.${path}`).catch(() => null));
}
