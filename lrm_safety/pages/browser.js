// The sample browser: filters, pages and keys over `source`, which finds samples (embedded.js, remote.js).
// Text enters the page as text only.
"use strict";
(() => {
  const PAGE = 20;
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const place = document.getElementById("place");
  const previous = document.getElementById("previous");
  const next = document.getElementById("next");
  const NAMES = source.sides.length > 1 ? { baseline: "base", candidate: "trained" } : {};
  let shown = [];
  let total = 0;
  let page = 0;
  let asked = 0;

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined && text !== "") element.textContent = text;
    return element;
  }

  // ------------------------------------------------------------ filters

  function shownSides() {
    return form.elements.model.value ? [form.elements.model.value] : source.sides;
  }

  function hasNoVerdict(side) {
    return Boolean(side.error) || !side.verdicts.length || Boolean(side.verdicts[0].invalid);
  }

  function wanted() {
    const fields = {};
    for (const name of ["benchmark", "attack", "flip", "label", "model"]) fields[name] = form.elements[name]?.value || "";
    return { ...fields, text: form.elements.text.value.trim() };
  }

  function filter() {
    return show(0);
  }

  // ------------------------------------------------------------ pages

  async function show(wantedPage, focus) {
    const mine = ++asked;
    const start = Math.max(0, wantedPage) * PAGE;
    list.setAttribute("aria-busy", "true");
    const found = await source.find(wanted(), start, PAGE);
    if (mine !== asked) return;
    list.removeAttribute("aria-busy");
    if (!found) return void (place.textContent = "The samples cannot be reached; is `lrm view` still running?");
    if (start && !found.samples.length) return show(Math.max(0, Math.ceil(found.total / PAGE) - 1), focus);
    ({ samples: shown, total } = found);
    page = start / PAGE;
    list.replaceChildren(...shown.map(card));
    list.start = start + 1;
    const range = total ? `${start + 1}–${start + shown.length} of ${total.toLocaleString("en")}` : "no sample matches";
    place.textContent = range + (total < found.every ? ` (${found.every.toLocaleString("en")} in all)` : "") + (found.note ? ` · ${found.note}` : "");
    previous.disabled = page === 0;
    next.disabled = start + shown.length >= total;
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
    const marks = marksOf(shownSides().map((name) => sample.sides[name]));
    shownSides().forEach((name, i) => sides.append(column(sample, name, isTextShown && marks[i])));
    body.append(sides);
    if (isTextShown && marks.some((side) => Object.values(side).some((found) => found.length))) body.append(legend());
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

  function legend() {
    const line = make("p", "muted");
    line.append(make("mark", "diverges", "first sentence that differs"), " ", make("mark", "declines", "first that declines, by its wording"));
    return line;
  }

  // `marks`: what to point out in its texts; false keeps them hidden.
  function column(sample, name, marks) {
    const column = make("div", "side");
    const side = sample.sides[name];
    column.append(make("h4", "", NAMES[name] || "model"));
    if (!side) {
      column.append(make("p", "muted", "Not in this run."));
      return column;
    }
    column.append(...facts(side));
    if (marks) column.append(...texts(side, marks));
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

  function texts(side, marks) {
    const parts = [];
    if (side.sent.length) parts.push(fold("what was sent, as the attack left it", side.sent.map((m) => `${m.role}: ${m.content}`).join("\n\n")));
    if (side.prefill) parts.push(caption("opening put into the model's mouth"), text(side.prefill));
    if (side.thinking) parts.push(fold(`thinking, ${side.thinking.length.toLocaleString("en")} characters`, side.thinking, marks.thinking));
    if (!side.error) parts.push(caption("answer"), side.answer ? text(side.answer, marks.answer) : make("p", "muted", "empty"));
    for (const verdict of side.verdicts) if (verdict.rationale) parts.push(fold(`why ${verdict.judge} says so`, verdict.rationale));
    return parts;
  }

  function caption(said) {
    return make("p", "caption", said);
  }

  function text(said, marks = []) {
    const element = make("pre", "text");
    let from = 0;
    for (const mark of marks) {
      element.append(visible(said.slice(from, mark.start)), make("mark", mark.kind, visible(said.slice(mark.start, mark.end))));
      from = mark.end;
    }
    element.append(visible(said.slice(from)));
    element.dir = "auto";
    element.tabIndex = 0;
    return element;
  }

  // Characters that would move a cursor or reorder a line, as signs that can be seen.
  function visible(said) {
    return said
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, (sign) => (sign === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + sign.charCodeAt(0))))
      .replace(/[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (sign) => `⟨U+${sign.charCodeAt(0).toString(16).toUpperCase()}⟩`);
  }

  function fold(said, content, marks) {
    const details = make("details", "fold");
    details.append(make("summary", "", said));
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(text(content, marks));
      if (!marks) return;
      for (const other of details.closest(".sides").querySelectorAll(".fold.thinking")) other.open = details.open;
    });
    if (marks) details.classList.add("thinking");
    return details;
  }

  // ------------------------------------------------------------ what to point out

  const DECLINES = /\b(?:I|we)(?:['’]m| am| are)? (?:(?:really |so |very )?sorry|unable|not able|not going to|can['’]?t|cannot|can not|won['’]t|will not|must (?:decline|refuse)|(?:have to|need to|should) (?:decline|refuse)|decline|refuse|should(?:n['’]t| not) (?:help|assist|provide|answer|comply|give))|^\s*(?:sorry|unfortunately, I)\b/i;

  function sentences(said) {
    const found = [];
    for (const match of said.matchAll(/[^.!?\n]*[.!?\n]+\s*|[^.!?\n]+$/g)) {
      const plain = match[0].trim();
      if (plain) found.push({ start: match.index + match[0].indexOf(plain), end: match.index + match[0].indexOf(plain) + plain.length, plain });
    }
    return found;
  }

  // For each side {thinking, answer}: up to two passages, in their order.
  function marksOf(sides) {
    const marks = sides.map(() => ({ thinking: [], answer: [] }));
    for (const field of ["thinking", "answer"]) {
      const said = sides.map((side) => sentences(side?.[field] || ""));
      const [one, other] = said;
      const isPair = said.length > 1 && one.length && other.length;
      const first = isPair ? one.findIndex((sentence, i) => sentence.plain !== other[i]?.plain) : -1;
      const differs = isPair && first < 0 && other.length > one.length ? one.length : first;
      said.forEach((all, i) => {
        const declines = all.findIndex((sentence) => DECLINES.test(sentence.plain));
        if (differs >= 0 && all[differs]) marks[i][field].push({ ...all[differs], kind: declines === differs ? "diverges declines" : "diverges" });
        if (declines >= 0 && declines !== differs) marks[i][field].push({ ...all[declines], kind: "declines" });
        marks[i][field].sort((a, b) => a.start - b.start);
      });
    }
    return marks;
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
    const sample = shown[[...list.children].indexOf(item)];
    if (body.hidden) toggle(sample, head, body);
    fill(sample, body, body.dataset.shown !== "yes");
    head.focus();
  }

  const KEYS = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    "]": () => show(page + 1, 0), "[": () => show(page - 1, 0), s: toggleText, "/": () => form.elements.text.focus(),
  };

  function close() {
    const item = document.activeElement.closest(".sample");
    if (item && !item.lastChild.hidden) item.firstChild.click();
    item?.firstChild.focus();
  }

  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape") return target === form.elements.text ? target.blur() : close();
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
      filter().then(() => heads()[0]?.focus({ preventScroll: true }));
      document.getElementById("samples").scrollIntoView();
    });
  }

  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, event.target === form.elements.text ? 150 : 0);
  });
  form.addEventListener("again", () => show(page));
  form.addEventListener("submit", (event) => event.preventDefault());
  previous.addEventListener("click", () => show(page - 1, 0));
  next.addEventListener("click", () => show(page + 1, 0));
  filter();
})();
