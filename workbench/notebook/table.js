// The same seeds over training: a column for each step at which they were drawn, a row for each seed.
// Stands before canvas.js in one module and uses its helpers.

const table = {
  watches: ["selected", "tile", "label", "empty"],
  decode: (content, buffers) => ({ ...content, pixels: bytes(buffers[0]) }),

  paint({ model, canvas, frame, width, dpr, colour, font }) {
    const { h, w, n, steps } = frame;
    const seeds = n / steps.length, selected = Math.min(model.get("selected"), n - 1);
    const ratio = (model.get("tile") * dpr) / Math.max(w, h);
    const scale = ratio < 1 ? ratio : fit(ratio);
    const tw = Math.round(w * scale), th = Math.round(h * scale);
    const head = Math.round(24 * dpr), down = th + Math.round(4 * dpr);
    const g = canvas.getContext("2d");
    const name = (i) => steps[i].toLocaleString("en");
    g.font = font(11);
    const across = Math.round(Math.max(tw, g.measureText(name(steps.length - 1)).width) + 8 * dpr);
    // columns keep their places while they can: every k-th of them, and the newest
    const room = Math.max(2, Math.floor(width / across));
    const stride = Math.max(1, Math.ceil((steps.length - 1) / (room - 1)));
    const shown = steps.map((_, i) => i).filter((i) => i % stride === 0 || i === steps.length - 1);
    const columnOf = (i) => shown.findLastIndex((known) => known <= Math.floor(i / seeds));
    resize(canvas, width, head + seeds * down, dpr);
    g.font = font(11);
    g.textAlign = "center";
    g.textBaseline = "middle";
    const draw = painter(g, frame);
    const left = (column) => column * across + Math.floor((across - tw) / 2);
    const now = selected < 0 ? -1 : columnOf(selected);
    shown.forEach((i, column) => {
      g.fillStyle = colour(column === now ? "text" : "quiet");
      g.fillText(name(i), column * across + across / 2, head / 2);
      for (let row = 0; row < seeds; row++) draw(frame.pixels, i * seeds + row, left(column), head + row * down, scale);
    });
    if (selected >= 0) outline(g, colour("accent"), left(now), head + (selected % seeds) * down, tw, th, Math.round(3 * dpr));
    const text = { step: selected < 0 ? "" : name(Math.floor(selected / seeds)), i: (selected % seeds) + 1, n: seeds };
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", selected < 0 ? steps.map((_, i) => name(i)).join(", ") : fill(model.get("label"), text));
    Object.assign(canvas.dataset, { columns: shown.length, steps: steps.length, scale, selected });
    return {
      at(x, y) {
        const column = Math.floor(x / across), row = Math.floor((y - head) / down);
        return column >= 0 && column < shown.length && row >= 0 && row < seeds ? shown[column] * seeds + row : -1;
      },
      keys: { ArrowLeft: -seeds * stride, ArrowRight: seeds * stride, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity },
      n,
      stays: true,
      drags: true,
    };
  },
};
