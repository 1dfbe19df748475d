/** Where this server is, seen from one of its pages. They all lie directly at its root, which is
 *  `/`, or the path of PUBLIC_URL. */

/** The path of the front page, with a slash at its end. */
export const home = new URL('.', location.href).pathname;

/** The address of this server, without a slash at its end. */
export const server = location.origin + home.slice(0, -1);

/** @param {string} path on this server, `/api/sessions` say  @returns {string} the path on its host */
export const at = (path) => home + path.slice(1);

/** The name of what this page keeps in the browser: installations on one host share its storage.
 *  @param {string} name  @returns {string} */
export const keptAs = (name) => (home === '/' ? name : `${name} ${home}`);
