// The service worker: keeps all files of the page, so that it works without network, and adds the headers that
// WebAssembly needs for threads and that forbid other origins. SITE, {version, files}, is written above this line.

const PREFIX = `srgan-jax ${self.registration.scope} `, CACHE = PREFIX + SITE.version;
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy": SITE.policy,
};

self.addEventListener("install", (event) => {
  self.skipWaiting();
  const requests = SITE.files.map((file) => new Request(file, { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

self.addEventListener("activate", (event) => event.waitUntil((async () => {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
})()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === self.location.origin) {
    event.respondWith(answer(request, event));
  }
});

// The runtime isn't in SITE.files: of its two variants only the one that is used is downloaded, then kept.
async function answer(request, event) {
  const cache = await caches.open(CACHE);
  const key = request.mode === "navigate" ? request.url.replace(/[?#].*$/, "").replace(/index\.html$/, "") : request.url;
  let response = await cache.match(key, { ignoreVary: true });
  if (!response) {
    response = await fetch(request);
    if (response.status === 200) event.waitUntil(cache.put(key, response.clone()).catch(() => {})); // or the disk is full
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  if (headers.has("content-length") && !headers.has("content-encoding")) headers.set("x-size", headers.get("content-length"));
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
