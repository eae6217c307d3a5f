// The sample browser: filters, pages and keys over the embedded records. Text enters the page as text only.
"use strict";
(() => {
  const PAGE = 20;
    const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const place = document.getElementById("place");
  const previous = document.getElementById("previous");
  const next = document.getElementById("next");
  const NAMES = data.sides.length > 1 ? { baseline: "base", candidate: "trained" } : {};
  let found = data.samples;
  let page = 0;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined && text !== "") element.textContent = text;
    return element;
  }

  // ------------------------------------------------------------ filters

  function shownSides() {
    return form.elements.model.value ? [form.elements.model.value] : data.sides;
  }

  function hasNoVerdict(side) {
    return Boolean(side.error) || !side.verdicts.length || Boolean(side.verdicts[0].invalid);
  }

  function hasLabel(side, wanted) {
    if (wanted === "invalid") return hasNoVerdict(side);
    if (wanted === "truncated") return side.finish === "length" || side.think_state === "truncated";
    return !hasNoVerdict(side) && "=" + side.verdicts[0].label === wanted;
  }

  function* textsOf(sample, names) {
    yield sample.key;
    for (const message of sample.request) yield message.content;
    for (const name of names) {
      const side = sample.sides[name];
      if (!side) continue;
      yield side.answer;
      yield side.thinking;
      yield side.prefill;
      for (const message of side.sent) yield message.content;
    }
  }

  function matches(sample, names, wanted, pattern) {
    if (wanted.benchmark && sample.benchmark !== wanted.benchmark) return false;
    if (wanted.attack && sample.attack !== wanted.attack) return false;
    if (wanted.flip && sample.flip !== wanted.flip) return false;
    if (wanted.label && !names.some((name) => sample.sides[name] && hasLabel(sample.sides[name], wanted.label))) return false;
    if (!pattern) return true;
    for (const text of textsOf(sample, names)) if (pattern.test(text)) return true;
    return false;
  }

  function filter() {
    const wanted = {};
    for (const name of ["benchmark", "attack", "flip", "label"]) wanted[name] = form.elements[name]?.value;
    const text = form.elements.text.value.trim();
    const pattern = text ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i") : null;
    const names = shownSides();
    found = data.samples.filter((sample) => matches(sample, names, wanted, pattern));
    show(0);
  }

  // ------------------------------------------------------------ pages

  function show(wantedPage, focus) {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(Math.max(0, wantedPage), last);
    const start = page * PAGE;
    const visible = found.slice(start, start + PAGE);
    list.replaceChildren(...visible.map(card));
    list.start = start + 1;
    const range = found.length ? `${start + 1}–${start + visible.length} of ${found.length.toLocaleString("en")}` : "no sample matches";
    place.textContent = range + (found.length < data.samples.length ? ` (${data.samples.length.toLocaleString("en")} in all)` : "");
    previous.disabled = page === 0;
    next.disabled = page === last;
    if (focus !== undefined) heads().at(focus)?.focus();
  }

  function heads() {
    return [...list.querySelectorAll(".head")];
  }

  // ------------------------------------------------------------ one sample

  function labelOf(side) {
    if (!side) return "–";
    if (side.error) return "no completion";
    return hasNoVerdict(side) ? "no verdict" : side.verdicts[0].label || String(side.verdicts[0].score);
  }

  function card(sample) {
    const item = make("li", "sample");
    const head = make("button", "head");
    head.type = "button";
    head.setAttribute("aria-expanded", "false");
    if (sample.flip) head.append(make("span", "flip " + sample.flip, sample.flip));
    head.append(make("bdi", "id", sample.id));
    const repeat = sample.repeat ? ` · repeat ${sample.repeat}` : "";
    head.append(make("bdi", "muted", `${sample.benchmark} · ${sample.attack}${repeat}`));
    head.append(make("span", "labels", shownSides().map((name) => labelOf(sample.sides[name])).join(" → ")));
    if (sample.role !== "harm" && sample.request.length) {
      head.append(make("span", "excerpt", sample.request.at(-1).content.slice(0, 160)));
    }
    const body = make("div", "body");
    body.hidden = true;
    head.addEventListener("click", () => toggle(sample, head, body));
    item.append(head, body);
    return item;
  }

  function toggle(sample, head, body) {
    const opens = body.hidden;
    body.hidden = !opens;
    head.setAttribute("aria-expanded", String(opens));
    if (!opens) return body.replaceChildren();
    fill(sample, body, sample.role !== "harm" || form.elements.unfold.checked);
  }

  function fill(sample, body, isTextShown) {
    body.dataset.shown = isTextShown ? "yes" : "no";
    body.replaceChildren();
    for (const [name, value] of Object.entries(sample.tags)) body.append(make("span", "tag", `${name}: ${value}`));
    if (isTextShown) {
      for (const message of sample.request) body.append(caption(message.role), text(message.content));
      if (sample.target) body.append(caption("expected answer"), text(sample.target));
    } else {
      body.append(veil(sample, body));
    }
    const sides = make("div", "sides");
    for (const name of shownSides()) sides.append(column(sample, name, isTextShown));
    body.append(sides);
  }

  function veil(sample, body) {
    const box = make("div", "hidden-text");
    const button = make("button", "reveal", "show text");
    button.type = "button";
    button.addEventListener("click", () => {
      fill(sample, body, true);
      body.previousElementSibling.focus();
    });
    box.append(make("p", "muted", "This sample tests for harm. Its prompt and answers may be unpleasant to read."), button);
    return box;
  }

  function column(sample, name, isTextShown) {
    const column = make("div", "side");
    const side = sample.sides[name];
    column.append(make("h4", "", NAMES[name] || "model"));
    if (!side) {
      column.append(make("p", "muted", "Not in this run."));
      return column;
    }
    column.append(...facts(side));
    if (isTextShown) column.append(...texts(side));
    return column;
  }

  function facts(side) {
    const tags = side.verdicts.map((verdict) => {
      const said = verdict.invalid ? `no verdict: ${verdict.invalid}` : `${verdict.label} (score ${Number(verdict.score.toPrecision(3))})`;
      return make("span", verdict.invalid ? "tag flagged" : "tag", `${verdict.judge}: ${said}`);
    });
    if (side.error) tags.push(make("span", "tag flagged", `no completion: ${side.error}`));
    else tags.push(make("span", "tag", `${side.tokens.toLocaleString("en")} tokens`));
    if (side.finish === "length") tags.push(make("span", "tag flagged", "cut by the token limit"));
    if (side.think_state === "truncated") tags.push(make("span", "tag flagged", "thinking never ended"));
    if (side.think_state === "absent") tags.push(make("span", "tag", "no thinking"));
    return tags;
  }

  function texts(side) {
    const parts = [];
    if (side.sent.length) parts.push(fold("what was sent, as the attack left it", side.sent.map((m) => `${m.role}: ${m.content}`).join("\n\n")));
    if (side.prefill) parts.push(caption("opening put into the model's mouth"), text(side.prefill));
    if (side.thinking) parts.push(fold(`thinking, ${side.thinking.length.toLocaleString("en")} characters`, side.thinking));
    if (!side.error) parts.push(caption("answer"), side.answer ? text(side.answer) : make("p", "muted", "empty"));
    for (const verdict of side.verdicts) if (verdict.rationale) parts.push(fold(`why ${verdict.judge} says so`, verdict.rationale));
    return parts;
  }

  function caption(said) {
    return make("p", "caption", said);
  }

  function text(said) {
    const element = make("pre", "text", said);
    element.dir = "auto";
    element.tabIndex = 0;
    return element;
  }

  function fold(said, content) {
    const details = make("details", "fold");
    details.append(make("summary", "", said));
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(text(content));
    });
    return details;
  }

  // ------------------------------------------------------------ keys and clicks

  function move(step) {
    const all = heads();
    const here = all.findIndex((head) => head.parentElement.contains(document.activeElement));
    const there = here < 0 ? 0 : here + step;
    if (there >= all.length && !next.disabled) show(page + 1, 0);
    else if (there < 0 && page > 0) show(page - 1, -1);
    else all[Math.min(Math.max(there, 0), all.length - 1)]?.focus();
    document.activeElement.scrollIntoView({ block: "nearest" });
  }

  function toggleText() {
    const item = document.activeElement.closest(".sample");
    if (!item) return;
    const [head, body] = item.children;
    const sample = found[page * PAGE + [...list.children].indexOf(item)];
    if (body.hidden) toggle(sample, head, body);
    fill(sample, body, body.dataset.shown !== "yes");
    head.focus();
  }

  const KEYS = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    "]": () => show(page + 1, 0), "[": () => show(page - 1, 0), s: toggleText, "/": () => form.elements.text.focus(),
  };

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape" && target === form.elements.text) return target.blur();
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select, textarea")) return;
    if (event.key.startsWith("Arrow") && !target.matches(".head")) return;
    if (!Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  for (const button of document.querySelectorAll(".jump")) {
    button.addEventListener("click", () => {
      form.reset();
      for (const name of ["benchmark", "attack", "flip"]) form.elements[name].value = button.dataset[name];
      filter();
      document.getElementById("samples").scrollIntoView();
      heads()[0]?.focus({ preventScroll: true });
    });
  }

  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, event.target === form.elements.text ? 150 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  previous.addEventListener("click", () => show(page - 1, 0));
  next.addEventListener("click", () => show(page + 1, 0));
  filter();
})();
