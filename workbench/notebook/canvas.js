// Draws what canvas.py shows: a grid of images, a film strip, curves, and the table of table.js, which stands before
// it in the same module. No imports, no build step.
// A frame comes as a custom message with binary buffers; when it has been painted, its number goes back.
// All lengths in the drawing code are device pixels, so that one image pixel is a whole number of screen pixels.

// ---- shared ----------------------------------------------------------------------------------------------

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
// a copy, since a message's buffers need not lie on a multiple of four
const floats = (view, Type) => new Type(bytes(view).slice().buffer);

// The whole number that fits, or one over a whole number where the image is larger than its place.
const fit = (ratio) => (ratio >= 1 ? Math.floor(ratio) : 1 / Math.ceil(1 / Math.max(ratio, 1e-6)));

const clamp = (i, n) => Math.max(0, Math.min(n - 1, i));

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

// Colours come from canvas.css, with JupyterLab's own already put in.
function palette(root) {
  const style = getComputedStyle(root);
  return (name) => style.getPropertyValue(`--iw-${name}`).trim();
}

// images: { n, h, w, c, pixels }; returns draw(i, x, y, scale), which paints image i with its corner at x, y.
function painter(g, { h, w, c }) {
  const tile = new OffscreenCanvas(w, h);
  const ink = tile.getContext("2d", { willReadFrequently: true });
  const image = new ImageData(w, h);
  const rgba = new Uint32Array(image.data.buffer); // little-endian: 0xAABBGGRR
  return (pixels, i, x, y, scale) => {
    let p = i * h * w * c;
    if (c === 1) for (let k = 0; k < h * w; k++) rgba[k] = 0xff000000 | (pixels[p++] * 0x010101);
    else for (let k = 0; k < h * w; k++, p += 3) rgba[k] = 0xff000000 | (pixels[p + 2] << 16) | (pixels[p + 1] << 8) | pixels[p];
    ink.putImageData(image, 0, 0);
    g.imageSmoothingEnabled = scale < 1;
    g.drawImage(tile, x, y, Math.round(w * scale), Math.round(h * scale));
  };
}

function outline(g, colour, x, y, w, h, gap) {
  const thick = Math.max(1, Math.round(gap / 3)), out = Math.round((gap * 2) / 3);
  g.strokeStyle = colour;
  g.lineWidth = thick;
  g.strokeRect(x - out + thick / 2, y - out + thick / 2, w + 2 * out - thick, h + 2 * out - thick);
}

// A letter with its subscript, as in the papers, its left middle at x, y.
function symbol(g, font, [letter, below], x, y, dpr) {
  g.textAlign = "left";
  g.font = font(13);
  g.fillText(letter, x, y);
  const after = x + g.measureText(letter[0]).width + 0.5 * dpr;
  g.font = font(10);
  if (below) g.fillText(below, after, y + 3 * dpr);
}

function resize(canvas, width, height, dpr) {
  canvas.width = width;
  canvas.height = height;
  canvas.style.width = `${width / dpr}px`;
  canvas.style.height = `${height / dpr}px`;
}

const choose = (model, i) => {
  if (i === model.get("selected")) return;
  model.set("selected", i);
  model.save_changes();
};

// ---- a grid of images ------------------------------------------------------------------------------------

function arrange({ n, h, w }, width, maxHeight, dpr, columns) {
  const gapAt = (scale) => Math.round((scale * w < 40 * dpr ? 3 : 6) * dpr);
  const attempt = (cols) => {
    const rows = Math.ceil(n / cols);
    const scaleWith = (gap) => {
      const across = fit((width - gap * (cols + 1)) / cols / w);
      const down = fit((maxHeight - gap * (rows + 1)) / rows / h);
      return Math.min(across, Math.max(down, 1)); // height may not shrink a picture below 1 : 1
    };
    const scale = scaleWith(gapAt(scaleWith(6 * dpr)));
    return { cols, rows, scale, gap: gapAt(scale) };
  };
  if (columns > 0) return attempt(Math.min(columns, n));
  const square = Math.ceil(Math.sqrt(n));
  let best = attempt(square);
  for (let cols = 1; cols <= Math.min(n, 64); cols++) {
    const other = attempt(cols);
    const nearer = Math.abs(cols - square) < Math.abs(best.cols - square);
    if (other.scale > best.scale || (other.scale === best.scale && nearer)) best = other;
  }
  return best;
}

const images = {
  watches: ["selected", "columns", "max_height", "label", "empty"],
  decode: (content, buffers) => ({ ...content, pixels: bytes(buffers[0]) }),

  paint({ model, canvas, frame, width, dpr, colour }) {
    const { n, h, w } = frame;
    const { cols, rows, scale, gap } = arrange(frame, width, model.get("max_height") * dpr, dpr, model.get("columns"));
    const tw = Math.round(w * scale), th = Math.round(h * scale);
    resize(canvas, cols * (tw + gap) + gap, rows * (th + gap) + gap, dpr);
    const g = canvas.getContext("2d");
    const draw = painter(g, frame);
    const at = (i) => [gap + (i % cols) * (tw + gap), gap + Math.floor(i / cols) * (th + gap)];
    for (let i = 0; i < n; i++) draw(frame.pixels, i, ...at(i), scale);
    const selected = model.get("selected");
    if (selected >= 0 && selected < n) outline(g, colour("accent"), ...at(selected), tw, th, gap);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", selected < 0 ? String(n) : fill(model.get("label"), { i: selected + 1, n }));
    Object.assign(canvas.dataset, { cols, scale, gap: gap / dpr, selected });
    return {
      at(x, y) {
        const col = Math.floor((x - gap / 2) / (tw + gap)), row = Math.floor((y - gap / 2) / (th + gap));
        const i = row * cols + col;
        return col >= 0 && col < cols && row >= 0 && i < n ? i : -1;
      },
      keys: { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -cols, ArrowDown: cols, Home: -Infinity, End: Infinity },
      n,
      stays: true, // an arrow over the edge does nothing: up from the first row must not go to the first image
    };
  },
};

// ---- a film strip ----------------------------------------------------------------------------------------

const strip = {
  watches: ["selected", "tile", "label", "empty"],
  decode: (content, buffers) => ({
    ...content,
    noisy: bytes(buffers[0]),
    clean: bytes(buffers[1]),
    sigmas: floats(buffers[2], Float64Array),
  }),

  paint({ model, canvas, frame, width, dpr, colour, font }) {
    const { n, h, w, sigmas } = frame;
    const selected = clamp(model.get("selected"), n);
    const gap = Math.round(6 * dpr), longest = Math.max(w, h);
    const left = gap + Math.round(22 * dpr); // room for what the rows are
    const room = (scale) => Math.floor((width - left) / (Math.round(w * scale) + gap));
    const ratio = (model.get("tile") * dpr) / longest;
    let scale = ratio < 1 ? ratio : fit(ratio); // a shrunken picture is averaged, and need not be a whole part
    while (scale > 1 && room(scale) < Math.min(n, 8)) scale -= 1; // large pictures, but not too few of them
    const tw = Math.round(w * scale), th = Math.round(h * scale);
    const slots = Math.max(1, Math.min(n, room(scale)));
    // a path with more steps than there is room for shows some of them, and the chosen one in its place
    const step = (k) => (slots > 1 ? Math.round((k * (n - 1)) / (slots - 1)) : selected);
    const chosen = n > 1 ? Math.round((selected * (slots - 1)) / (n - 1)) : 0;
    const rise = Math.round(4 * dpr), line = Math.round(26 * dpr);
    resize(canvas, left + slots * (tw + gap), gap + 2 * th + rise + line, dpr);
    const g = canvas.getContext("2d");
    const draw = painter(g, frame);
    const name = (i) => String(Number(sigmas[i].toPrecision(3)));
    const y = gap + 2 * th + rise + line / 2;
    g.textBaseline = "middle";
    g.fillStyle = colour("quiet");
    const rows = [[["x", "t"], gap + th / 2], [["x\u0302", "0"], gap + th + rise + th / 2], [["σ"], y]];
    for (const [what, middle] of rows) symbol(g, font, what, gap, middle, dpr);
    g.font = font(11);
    g.textAlign = "center";
    const centre = (k) => left + k * (tw + gap) + tw / 2;
    const half = (k, i) => g.measureText(name(i)).width / 2 + 4 * dpr;
    const inside = (x, reach) => Math.max(left - gap + reach, Math.min(canvas.width - reach, x));
    const pill = { reach: half(chosen, selected) + 2 * dpr };
    pill.x = inside(centre(chosen), pill.reach);
    let free = -Infinity; // where the last label ended
    for (let k = 0; k < slots; k++) {
      const i = k === chosen ? selected : step(k), x = left + k * (tw + gap);
      draw(frame.noisy, i, x, gap, scale);
      draw(frame.clean, i, x, gap + th + rise, scale);
      if (k === chosen) continue;
      const reach = half(k, i), middle = inside(centre(k), reach);
      if (middle - reach < free || Math.abs(middle - pill.x) < reach + pill.reach) continue;
      g.fillStyle = colour("quiet");
      g.fillText(name(i), middle, y);
      free = middle + reach;
    }
    outline(g, colour("accent"), left + chosen * (tw + gap), gap, tw, 2 * th + rise, gap);
    g.fillStyle = colour("accent");
    g.beginPath();
    g.roundRect(pill.x - pill.reach, y - 9 * dpr, 2 * pill.reach, 18 * dpr, 3 * dpr);
    g.fill();
    g.fillStyle = colour("on-accent");
    g.fillText(name(selected), pill.x, y);
    const text = fill(model.get("label"), { i: selected + 1, n, sigma: name(selected) });
    const aria = { role: "slider", "aria-valuemin": 0, "aria-valuemax": n - 1, "aria-valuenow": selected, "aria-valuetext": text };
    for (const [key, value] of Object.entries(aria)) canvas.setAttribute(key, value);
    Object.assign(canvas.dataset, { slots, scale, gap: gap / dpr, selected });
    return {
      at: (x) => {
        const along = (x - left - tw / 2) / Math.max(1, (slots - 1) * (tw + gap));
        return clamp(Math.round(along * (n - 1)), n);
      },
      keys: { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, Home: -Infinity, End: Infinity },
      n,
      drags: true,
    };
  },
};

// ---- curves ----------------------------------------------------------------------------------------------

// Round levels between lo and hi, as sparse as still gives three: 1, 10; else 1, 2, 5; else finer.
function logTicks(lo, hi) {
  let ticks = [];
  for (const heads of [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]]) {
    ticks = [];
    for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e++)
      for (const head of heads) ticks.push(Number((head * 10 ** e).toPrecision(3)));
    ticks = ticks.filter((t) => t >= lo && t <= hi);
    if (ticks.length >= 3) break;
  }
  return ticks;
}

function linearTicks(lo, hi, most) {
  const raw = (hi - lo || 1) / Math.max(1, most), unit = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, unit * [1, 2, 5, 10].find((m) => m * unit >= raw));
  const ticks = [];
  for (let t = Math.ceil(lo / step) * step; t <= hi; t += step) ticks.push(t);
  return ticks;
}

const curves = {
  watches: ["title", "height", "empty"],
  decode: ({ names, counts, ...content }, buffers) => ({
    ...content,
    n: Math.max(0, ...counts),
    series: names.map((name, k) => ({
      name,
      x: floats(buffers[2 * k], Float32Array),
      y: floats(buffers[2 * k + 1], Float32Array),
    })),
  }),

  paint({ model, canvas, frame, width, dpr, colour, font }) {
    const height = model.get("height") * dpr;
    resize(canvas, width, height, dpr);
    const g = canvas.getContext("2d");
    let [x0, x1, lo, hi] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of frame.series)
      for (let i = 0; i < x.length; i++) {
        x0 = Math.min(x0, x[i]);
        x1 = Math.max(x1, x[i]);
        if (y[i] > 0) [lo, hi] = [Math.min(lo, y[i]), Math.max(hi, y[i])];
      }
    if (!(lo <= hi)) [lo, hi] = [0.1, 1];
    if (x1 <= x0) x1 = x0 + 1;
    const pad = Math.max(0.03 * Math.log(hi / lo), 0.02); // a flat curve gets an axis, too
    [lo, hi] = [lo * Math.exp(-pad), hi * Math.exp(pad)];

    g.font = font(11);
    g.textBaseline = "middle";
    const ticks = logTicks(lo, hi), names = ticks.map((t) => String(t));
    const left = Math.ceil(Math.max(...names.map((t) => g.measureText(t).width), 0)) + 24 * dpr;
    const right = width - 20 * dpr, top = 40 * dpr, bottom = height - 32 * dpr;
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (right - left);
    const py = (y) => bottom - (Math.log(y / lo) / Math.log(hi / lo)) * (bottom - top);

    g.lineWidth = Math.max(1, Math.round(dpr));
    g.textAlign = "right";
    ticks.forEach((t, i) => {
      const y = Math.round(py(t)) + (g.lineWidth % 2) / 2;
      g.strokeStyle = colour("hairline");
      g.beginPath();
      g.moveTo(left, y);
      g.lineTo(right, y);
      g.stroke();
      g.fillStyle = colour("quiet");
      g.fillText(names[i], left - 8 * dpr, y);
    });
    g.textAlign = "center";
    for (const t of linearTicks(x0, x1, (right - left) / (90 * dpr)))
      g.fillText(t.toLocaleString("en"), px(t), bottom + 16 * dpr);

    let x = 16 * dpr;
    g.textAlign = "left";
    g.font = font(12, 600);
    g.fillStyle = colour("text");
    g.fillText(model.get("title"), x, 18 * dpr);
    x += g.measureText(model.get("title")).width + 24 * dpr;
    g.font = font(12);
    frame.series.forEach(({ name }, k) => {
      g.fillStyle = colour(`series-${k}`);
      g.fillRect(x, 17 * dpr, 14 * dpr, 2 * dpr);
      g.fillStyle = colour("quiet");
      g.fillText(name, x + 20 * dpr, 18 * dpr);
      x += 20 * dpr + g.measureText(name).width + 20 * dpr;
    });

    g.lineJoin = "round";
    for (let k = frame.series.length - 1; k >= 0; k--) {
      const line = frame.series[k];
      g.strokeStyle = colour(`series-${k}`);
      g.lineWidth = (k === 2 ? 1 : 2) * dpr;
      g.beginPath();
      let pen = false;
      for (let i = 0; i < line.x.length; i++) {
        if (!(line.y[i] > 0)) pen = false;
        else if (pen) g.lineTo(px(line.x[i]), py(line.y[i]));
        else {
          g.moveTo(px(line.x[i]), py(line.y[i]));
          g.lineTo(px(line.x[i]), py(line.y[i])); // a single point is a dot
          pen = true;
        }
      }
      g.lineCap = "round";
      g.stroke();
    }
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${model.get("title")}: ${frame.series.map((s) => s.name).join(", ")}`);
    return null;
  },
};

// ---- the widget ------------------------------------------------------------------------------------------

const kinds = { images, strip, curves, table };

// The factory runs once per model, so `frame` outlives its views and a new view shows it at once.
export default () => {
  let frame = null, planned = 0;
  const views = new Set();

  // Painting waits for the screen: of several frames the newest is painted, and a hidden tab asks for no more.
  function plan(model) {
    planned ||= requestAnimationFrame(() => {
      planned = 0;
      for (const paint of views) paint();
      if (frame && !frame.confirmed) {
        frame.confirmed = true;
        model.send({ kind: "painted", frame: frame.frame });
      }
    });
  }

  return {
    initialize({ model }) {
      const kind = kinds[model.get("_kind")];
      model.on("msg:custom", (content, buffers) => {
        frame = kind.decode(content, buffers);
        plan(model);
      });
      model.send({ kind: "hello" });
      return () => cancelAnimationFrame(planned);
    },

    render({ model, el }) {
      const kind = kinds[model.get("_kind")];
      const root = document.createElement("div");
      root.className = `imagen-workbench iw-view iw-${model.get("_kind")}`;
      root.innerHTML = '<canvas hidden></canvas><div class="iw-empty"></div>';
      el.append(root);
      const canvas = root.querySelector("canvas"), empty = root.querySelector(".iw-empty");
      canvas.dataset.lmSuppressShortcuts = "true"; // arrow keys are ours, not the notebook's
      let scene = null, across = 0;

      function paint() {
        // While JupyterLab changes its theme, nothing has a width; the last one is still right, or the observer
        // calls again, as it does for a view that is not in the page yet.
        across = root.clientWidth || across;
        const dpr = window.devicePixelRatio || 1, width = Math.floor(across * dpr);
        if (!width) return;
        canvas.hidden = !frame?.n;
        empty.hidden = !canvas.hidden;
        empty.textContent = model.get("empty");
        if (canvas.hidden) return;
        const family = getComputedStyle(root).fontFamily;
        const font = (size, weight = 400) => `${weight} ${size * dpr}px ${family}`;
        scene = kind.paint({ model, canvas, frame, width, dpr, colour: palette(root), font });
        canvas.dataset.frame = frame.frame;
        if (scene) canvas.tabIndex = 0;
      }

      const again = () => plan(model);
      const under = (event) => {
        const box = canvas.getBoundingClientRect(), dpr = canvas.width / box.width;
        return scene.at((event.clientX - box.left) * dpr, (event.clientY - box.top) * dpr);
      };
      const pick = (event) => {
        const i = scene ? under(event) : -1;
        if (i >= 0) choose(model, i);
      };
      canvas.addEventListener("pointerdown", (event) => {
        if (event.button !== 0 || !scene) return;
        pick(event);
        if (scene.drags) canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (canvas.hasPointerCapture(event.pointerId)) pick(event);
      });
      canvas.addEventListener("keydown", (event) => {
        const by = scene?.keys[event.key];
        if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        event.stopPropagation();
        const from = model.get("selected"), to = from < 0 ? 0 : from + by, inside = to >= 0 && to < scene.n;
        if (inside || !scene.stays || !Number.isFinite(to)) choose(model, clamp(to, scene.n));
      });

      for (const name of kind.watches) model.on(`change:${name}`, again);
      const size = new ResizeObserver(again);
      size.observe(root);
      const theme = new MutationObserver(again); // JupyterLab marks its theme on the body
      theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
      views.add(paint);
      again();
      return () => {
        views.delete(paint);
        size.disconnect();
        theme.disconnect();
        for (const name of kind.watches) model.off(`change:${name}`, again);
      };
    },
  };
};
