// Draws rows of settings, as form.py tells them, and tells it of what a person does. All values are texts.
// What a row is stands in rows.js, before it in the same module. No imports, no build step.

// The factory runs once per model: what is on its way to the kernel is the same for all views of a form.
export default () => {
  const page = Math.random().toString(36).slice(2), flying = new Map(), waiting = new Map();
  let count = 0;

  function launch(model, key, text) {
    flying.set(key, (count += 1));
    model.send({ kind: "edit", key, text, page, number: count });
  }

  return {
    initialize({ model }) {
      model.on("change:heard", () => {
        const heard = model.get("heard")[page] ?? 0;
        for (const [key, sent] of [...flying])
          if (sent <= heard) {
            flying.delete(key);
            if (waiting.has(key)) launch(model, key, waiting.get(key));
            waiting.delete(key);
          }
      });
    },

    render({ model, el }) {
      const root = make("div", { className: "imagen-workbench iw-rows" });
      el.append(root);
      let rows = new Map(), laid = "", planned = 0;

      // Keys in the panel are its own, not the notebook's. JupyterLab asks the very element that has the focus, be it
      // ours or a button of ipywidgets.
      const own = ({ target }) => {
        if ((el.closest(".iw-panel") ?? root).contains(target)) target.dataset.lmSuppressShortcuts = "true";
      };
      document.addEventListener("focusin", own);

      const tell = (key) => (text) => (flying.has(key) ? waiting.set(key, text) : launch(model, key, text));
      const press = (key) => (button) => model.send({ kind: "press", key, button });

      const made = (row) => ({ ...build(row, tell(row.key), press(row.key)), told: JSON.stringify(row) });

      // Rows that are told anew as they were keep their place: a person may be in the middle of dragging one.
      function lay() {
        const groups = model.get("groups");
        const shape = JSON.stringify(groups.map(({ title, rows: inside }) => [title, inside.map(({ key }) => key)]));
        if (shape === laid) {
          for (const row of groups.flatMap((group) => group.rows)) {
            const before = rows.get(row.key);
            if (before.told === JSON.stringify(row)) continue;
            rows.set(row.key, made(row));
            before.node.replaceWith(rows.get(row.key).node);
          }
        } else {
          laid = shape;
          rows = new Map(groups.flatMap((group) => group.rows).map((row) => [row.key, made(row)]));
          root.replaceChildren(
            ...groups.map(({ title, rows: inside }) => {
              const heading = title ? [make("h3", { textContent: title })] : [];
              return make("section", { className: "iw-group" }, ...heading, ...inside.map(({ key }) => rows.get(key).node));
            }),
          );
        }
        show();
      }

      function show() {
        const [values, errors, off] = ["values", "errors", "off"].map((name) => model.get(name));
        const changed = new Set(model.get("changed")), hidden = new Set(model.get("hidden"));
        for (const [key, row] of rows) {
          // what the person has just done stays until the kernel has heard of it
          if (!flying.has(key)) row.show(values[key] ?? "");
          row.state({ wrong: errors[key] ?? "", changed: changed.has(key), off: off[key], hidden: hidden.has(key) });
        }
        for (const section of root.children)
          section.hidden = [...section.querySelectorAll(".iw-row")].every((row) => row.hidden);
      }

      // several of them change with one message
      const soon = () => (planned ||= requestAnimationFrame(() => ((planned = 0), show())));
      const names = ["values", "errors", "changed", "off", "hidden", "heard"];
      for (const name of names) model.on(`change:${name}`, soon);
      model.on("change:groups", lay);
      const copy = (content) => {
        if (content.kind === "copy") navigator.clipboard?.writeText(content.text).catch(() => {});
      };
      model.on("msg:custom", copy);
      lay();
      return () => {
        cancelAnimationFrame(planned);
        document.removeEventListener("focusin", own);
        for (const name of names) model.off(`change:${name}`, soon);
        model.off("change:groups", lay);
        model.off("msg:custom", copy);
      };
    },
  };
};
