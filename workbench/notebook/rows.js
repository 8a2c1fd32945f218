// The kinds of rows that a form can have: each is { parts, controls, show(text) }, and `tell`s what a person does.
// Stands before form.js in one module.

const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const number = (text) => Number(String(text).replaceAll(",", "")); // NaN where it is none

const DICE =
  '<svg viewBox="0 0 20 20" width="18" height="18" fill="none" stroke="currentColor" stroke-width="1.5" aria-hidden="true">' +
  '<rect x="3.25" y="3.25" width="13.5" height="13.5" rx="2.5"/><g fill="currentColor" stroke="none">' +
  [[7, 7], [13, 7], [10, 10], [7, 13], [13, 13]].map(([x, y]) => `<circle cx="${x}" cy="${y}" r="1.15"/>`).join("") +
  "</g></svg>";

// A field that tells what was typed when the person leaves it or presses Enter; Escape takes it back.
function field(tell, { right = false, type = "text" } = {}) {
  const input = make("input", { type, className: right ? "iw-field iw-right" : "iw-field", spellcheck: false, autocomplete: "off" });
  let shown = "";
  const commit = () => input.value !== shown && tell((shown = input.value));
  input.addEventListener("change", commit);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") commit();
    else if (event.key === "Escape") input.value = shown;
    else return;
    event.stopPropagation();
  });
  return {
    input,
    show(text) {
      const typing = document.activeElement === input && input.value !== shown;
      shown = text;
      if (typing || input.value === text) return;
      const marked = document.activeElement === input && input.selectionStart === 0 && input.selectionEnd === input.value.length;
      input.value = text;
      if (marked) input.select(); // whoever is about to type over all of it still does
    },
  };
}

// ---- kinds of rows: each gives { parts, controls, show(text) } --------------------------------------------

function numberRow(row, tell) {
  const stops = row.stops ?? [], levels = stops.map(number), last = stops.length - 1;
  const slider = make("input", { type: "range", className: "iw-slider", min: 0, max: last, step: 1 });
  const nearest = (value) => levels.reduce((best, level, i) => (Math.abs(level - value) < Math.abs(levels[best] - value) ? i : best), 0);
  const mark = (text) => {
    slider.style.setProperty("--iw-done", `${(100 * slider.value) / Math.max(1, last)}%`);
    slider.setAttribute("aria-valuetext", text);
  };
  const take = (text) => {
    typed.show(text);
    typed.input.value = text;
    slider.value = nearest(number(text));
    mark(text);
    tell(text);
  };
  const typed = field((text) => tell(text), { right: true });
  const stepBy = (by) => {
    const value = number(typed.input.value);
    const beyond = by > 0 ? levels.findIndex((level) => level > value + 1e-9) : levels.findLastIndex((level) => level < value - 1e-9);
    if (beyond >= 0) take(stops[beyond]);
  };
  slider.addEventListener("input", () => take(stops[slider.value]));
  slider.addEventListener("dblclick", () => row.default && take(row.default));
  typed.input.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    stepBy(by);
  });
  for (const part of [slider, typed.input])
    part.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        stepBy(event.deltaY < 0 ? 1 : -1);
      },
      { passive: false },
    );
  return {
    parts: [slider, typed.input],
    controls: [slider, typed.input],
    show(text) {
      typed.show(text);
      if (Number.isFinite(number(text))) slider.value = nearest(number(text));
      mark(text);
    },
  };
}

function textRow(row, tell) {
  const { input, show } = field(tell, { right: !row.wide });
  if (row.wide) input.classList.add("iw-wide");
  input.placeholder = row.placeholder ?? "";
  return { parts: [input], controls: [input], show };
}

const OTHER = "\u0000other";

function choiceRow(row, tell) {
  const select = make("select", { className: "iw-field" });
  const other = row.other ? field((text) => text && tell(text)) : null;
  const options = [...(row.choices ?? []), ...(row.other ? [[OTHER, row.other]] : [])];
  select.append(...options.map(([value, text]) => make("option", { value, textContent: text })));
  let now = "";
  if (other) {
    other.input.classList.add("iw-other");
    other.input.hidden = true;
    other.input.placeholder = "path";
    other.input.setAttribute("aria-label", row.other);
  }
  select.addEventListener("change", () => {
    if (other) other.input.hidden = select.value !== OTHER;
    if (select.value !== OTHER) return tell(select.value);
    other.input.focus();
  });
  return {
    parts: [make("span", { className: "iw-select" }, select)],
    below: other ? [other.input] : [],
    controls: other ? [select, other.input] : [select],
    show(text) {
      if (text === now && select.value === OTHER) return; // the person is about to type a path
      now = text;
      if (![...select.options].some((option) => option.value === text))
        select.prepend(make("option", { value: text, textContent: text.split("/").pop() || text }));
      select.value = text;
      if (other) other.input.hidden = true;
    },
  };
}

let lists = 0;

function searchRow(row, tell) {
  const typed = field((text) => tell(row.choices.find(([, label]) => label === text)?.[0] ?? text), { type: "search" });
  const list = make("datalist", { id: `iw-list-${Math.random().toString(36).slice(2)}-${(lists += 1)}` });
  list.append(...row.choices.map(([, label]) => make("option", { value: label })));
  typed.input.classList.add("iw-wide");
  typed.input.setAttribute("list", list.id);
  // a list shows what begins like the text: an empty field shows all of it
  typed.input.addEventListener("focus", () => typed.input.select());
  return {
    parts: [typed.input, list],
    controls: [typed.input],
    show: (text) => typed.show(row.choices.find(([value]) => value === text)?.[1] ?? text),
  };
}

function chipsRow(row, tell) {
  const chips = row.choices.map(([value, label]) =>
    make("button", { type: "button", className: value ? "iw-chip" : "iw-chip iw-each", value, textContent: label, title: label, role: "radio" }),
  );
  const group = make("div", { className: "iw-chips", role: "radiogroup" }, ...chips);
  const show = (text) => {
    for (const chip of chips) {
      const chosen = chip.value === text;
      chip.setAttribute("aria-checked", chosen);
      chip.tabIndex = chosen ? 0 : -1;
    }
    if (!chips.some((chip) => chip.tabIndex === 0)) chips[0].tabIndex = 0;
  };
  const pick = (chip) => {
    show(chip.value);
    chip.focus();
    tell(chip.value);
  };
  group.addEventListener("click", (event) => chips.includes(event.target) && pick(event.target));
  group.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = chips.indexOf(event.target);
    if (!by || at < 0) return;
    event.preventDefault();
    pick(chips[(at + by + chips.length) % chips.length]);
  });
  return { parts: [group], controls: chips, show, named: group };
}

function switchRow(row, tell) {
  const input = make("input", { type: "checkbox", className: "iw-check" });
  input.addEventListener("change", () => tell(input.checked ? "yes" : "no"));
  return { parts: [input], controls: [input], show: (text) => (input.checked = text === "yes") };
}

// Its text is "seed locked" or "seed free": a number and whether Draw keeps it.
function seedRow(row, tell, press) {
  const typed = field(tell, { right: true });
  const dice = make("button", { type: "button", className: "iw-button iw-icon", innerHTML: DICE, title: "Roll another seed and draw." });
  const lock = make("button", { type: "button", className: "iw-button iw-toggle", textContent: "Lock", title: "While locked, Draw keeps this seed." });
  dice.setAttribute("aria-label", "Roll another seed");
  dice.addEventListener("click", () => press("roll-seed"));
  lock.addEventListener("click", () => press("lock-seed"));
  return {
    parts: [typed.input, dice, lock],
    controls: [typed.input, dice, lock],
    show(text) {
      const [seed, locked] = text.split(" ");
      typed.show(seed);
      lock.setAttribute("aria-pressed", locked === "locked");
    },
  };
}

// Unfolds other rows: it says what a click would do.
function foldRow(row, tell) {
  const link = make("button", { type: "button", className: "iw-button iw-link" });
  let now = "no";
  link.addEventListener("click", () => tell(now === "yes" ? "no" : "yes"));
  return {
    parts: [link],
    controls: [link],
    show(text) {
      now = text;
      link.textContent = row.choices.find(([value]) => value === text)?.[1] ?? "";
      link.setAttribute("aria-expanded", text === "yes");
    },
    bare: true,
  };
}

function wordsRow() {
  const words = make("div", { className: "iw-words" });
  return { parts: [words], controls: [], show: (text) => (words.textContent = text), bare: true };
}

function linesRow(row) {
  const lines = make("pre", { tabIndex: 0 });
  const details = make("details", { className: "iw-lines", open: Boolean(row.wide) }, make("summary", { textContent: row.label }), lines);
  const show = (text) => {
    lines.textContent = text;
    details.hidden = !text;
  };
  return { parts: [details], controls: [], show, bare: true };
}

const kinds = {
  number: numberRow, text: textRow, choice: choiceRow, search: searchRow, chips: chipsRow,
  switch: switchRow, seed: seedRow, fold: foldRow, words: wordsRow, lines: linesRow,
};

// ---- a row with its label, unit, note and error -----------------------------------------------------------

function build(row, tell, press) {
  const control = kinds[row.kind](row, tell, press);
  const error = make("div", { className: "iw-error", role: "alert", id: `iw-error-${(lists += 1)}-${Math.random().toString(36).slice(2)}` });
  const dot = make("span", { className: "iw-dot", title: "Changed" });
  const label = make("label", { className: "iw-label" }, row.label ?? "", dot);
  const line = make("div", { className: "iw-line" }, ...control.parts);
  if (row.unit) line.append(make("span", { className: "iw-unit", textContent: row.unit }));
  const body = make("div", { className: "iw-body" }, line, ...(control.below ?? []));
  body.append(error);
  if (row.note) body.append(make("div", { className: "iw-note", textContent: row.note }));
  const node = make("div", { className: `iw-row iw-row-${row.kind}`, title: row.help ?? "" });
  node.dataset.key = row.key;
  if (row.label && !control.bare && row.kind !== "chips") node.append(label);
  node.append(body);
  for (const each of control.named ? [control.named] : control.controls)
    if (!each.hasAttribute("aria-label") && row.label) each.setAttribute("aria-label", row.label);
  label.addEventListener("click", () => control.controls[0]?.focus());
  return {
    node,
    show: control.show,
    state({ wrong, changed, off, hidden }) {
      node.hidden = hidden;
      error.textContent = wrong;
      dot.hidden = !changed;
      node.classList.toggle("iw-wrong", Boolean(wrong));
      node.title = off || row.help || "";
      for (const each of control.controls) {
        each.disabled = Boolean(off);
        if (wrong) each.setAttribute("aria-describedby", error.id);
        else each.removeAttribute("aria-describedby");
        if (each.tagName === "INPUT") each.setAttribute("aria-invalid", Boolean(wrong));
      }
    },
  };
}
