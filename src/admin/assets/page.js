// Asks for the parts of the page each second and replaces those that changed. The server renders and escapes
// them; this adds no number of its own.
"use strict";
(() => {
  const every = 1000;
  const patience = 5000;
  const shown = {};
  const stale = document.getElementById("stale");
  let answered = new Date();

  const show = ({ title, parts }) => {
    document.title = title;
    for (const [id, html] of Object.entries(parts)) {
      const part = document.getElementById(id);
      // What did not change stays: a text that somebody has selected, a place they scrolled to.
      if (part && shown[id] !== html) {
        part.innerHTML = html;
        shown[id] = html;
      }
    }
  };

  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch("api/v1/page", { cache: "no-store", signal: AbortSignal.timeout(patience) });
        if (!answer.ok) throw new Error(`it answers ${answer.status}`);
        show(await answer.json());
        answered = new Date();
        stale.hidden = true;
        document.body.classList.remove("old");
      } catch (error) {
        const time = answered.toISOString().slice(11, 19);
        stale.textContent = `Sluicegate does not answer (${error.message}): what stands here is of ${time} UTC.`;
        stale.hidden = false;
        document.body.classList.add("old");
      }
    }
    setTimeout(look, every);
  };
  setTimeout(look, every);
})();
