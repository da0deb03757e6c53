// Progress of an operation, as the worker tells it. Without this script the page asks again by itself.
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const state = document.getElementById("state"), steps = document.getElementById("steps");
  const source = new EventSource(live.dataset.events);
  source.onmessage = (event) => {
    const told = JSON.parse(event.data);
    if (told.over) {
      source.close();
      location.reload();
      return;
    }
    // Only what is new is read out.
    if (state.innerHTML !== told.state) state.innerHTML = told.state;
    steps.innerHTML = told.steps;
  };
  // Refused for good (signed out, another worker): the page itself says why.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  };
})();
