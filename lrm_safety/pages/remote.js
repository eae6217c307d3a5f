// Where the sample browser of `lrm view` finds its samples: it asks the server that the page came from, a page at a time.
"use strict";
const source = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const labels = document.forms.filters.elements.label;
  let waiting = 0;

  // In the body of a POST: what is searched for is in no address and no history.
  async function find(wanted, start) {
    clearTimeout(waiting);
    try {
      const answer = await fetch("/samples/find", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...wanted, start, runs: data.runs }) });
      if (!answer.ok) return null;
      const found = await answer.json();
      offer(found.labels);
      if (found.unread) waiting = setTimeout(again, found.samples.length ? 2000 : 200);
      return found;
    } catch {
      return null;
    }
  }

  // More has been read meanwhile; not while somebody reads a sample.
  function again() {
    if (document.querySelector(".head[aria-expanded=true]")) waiting = setTimeout(again, 2000);
    else document.forms.filters.dispatchEvent(new Event("again"));
  }

  function offer(found) {
    const there = new Set([...labels.options].map((option) => option.value));
    for (const label of found) if (!there.has("=" + label)) labels.add(new Option(label, "=" + label), labels.options[1]);
  }

  return { sides: data.sides, find };
})();
