// Follows a stream of events, and replaces the named parts of the page by what the server shows now.
"use strict";
{
  const {stream, types, parts} = document.currentScript.dataset;
  const PAUSE = 300; // Milliseconds between two reads of the page, however many events there are.
  let due = false;

  const refresh = async () => {
    due = false;
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const shown = document.querySelector(parts), now = page.querySelector(parts);
    if (shown && now) shown.replaceWith(document.adoptNode(now));
  };
  const soon = () => {
    if (!due) {
      due = true;
      setTimeout(refresh, PAUSE);
    }
  };

  const source = new EventSource(stream);
  for (const type of types.split(" ")) source.addEventListener(type, soon);
  source.addEventListener("end", (event) => {
    if (JSON.parse(event.data).reason !== "time_limit") source.close();
    soon();
  });
}
