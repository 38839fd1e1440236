// What every page does by itself: dark or light, telling the server whether anybody looks, keeping the session.
(() => {
  const RENEW_EVERY_MS = 10 * 60 * 1000;
  const KEPT = "stellwerk-dark";

  const signIn = () => location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);

  async function renew() {
    try {
      const answer = await fetch("/session", { method: "POST", redirect: "manual" });
      if (answer.status === 401) signIn();
    } catch {
      // The server is away; the page says so already.
    }
  }

  function dark(wanted) {
    setDark(wanted);
    localStorage.setItem(KEPT, wanted ? "1" : "0");
  }

  const tellVisible = () => emitEvent("visible", document.visibilityState === "visible");

  function start() {
    const kept = localStorage.getItem(KEPT);
    if (kept !== null) dark(kept === "1");
    document.getElementById("dark")?.addEventListener("click", () => dark(!Quasar.Dark.isActive));
    document.addEventListener("visibilitychange", tellVisible);
    if (document.visibilityState !== "visible") tellVisible();
    window.socket.on("connect", () => setTimeout(tellVisible));
    // A refused connection looks like one that failed; ask whether it is for want of a session.
    window.socket.on("connect_error", renew);
    setInterval(() => document.visibilityState === "visible" && renew(), RENEW_EVERY_MS);
  }

  const waiting = setInterval(() => {
    if (!window.socket || !window.Quasar || !document.getElementById("dark")) return;
    clearInterval(waiting);
    start();
  }, 50);
})();
