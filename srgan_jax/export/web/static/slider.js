// <before-after>: two images of one scene on top of each other, with a line between them that can be moved.
//
//   <before-after><img src="before.png" alt="before"><img src="after.png" alt="after"></before-after>
//
// The first child is left of the line and the second right of it: <img> or <canvas>, of any sizes. A page that replaces
// an image sets its `src`, or calls `show(before, after)` with new elements. Without `import`: the file also works as
// the text of an inline <script type="module">, where a page is opened from a disk.
//
// Drag on the image, or the arrow keys, move the line; Home and End move it to a side. Pinch, Ctrl and the wheel, the
// buttons or + - 0 1 zoom. When zoomed, drag beside the line or Shift and the arrow keys move the images.
//
// Attributes and properties: `at` (position of the line, 0 to 100), `zoom` (1: the whole image), `center` ("x y": the
// point of the image in the middle, 0 to 1 each). The event "view" is fired after each change.

const NEAR_PX = 24, MOST_ZOOM = 64;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const widthOf = (image) => image.naturalWidth || (image.localName === "canvas" ? image.width : 0);
const heightOf = (image) => image.naturalHeight || (image.localName === "canvas" ? image.height : 0);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

class BeforeAfter extends HTMLElement {
  #at = 50; #zoom = 1; #x = 0.5; #y = 0.5;
  #pointers = new Map(); #moved = null; #atBefore = 50;
  #frame; #line; #images = []; #layers; #label;

  connectedCallback() {
    if (this.#frame) return;
    const images = [...this.children];
    this.#layers = ["before", "after"].map((side) => make("div", { class: `layer ${side}` }));
    this.#line = make("div", {
      class: "line", role: "slider", tabindex: "0", "aria-orientation": "horizontal", "aria-valuemin": "0",
      "aria-valuemax": "100", "aria-label": this.getAttribute("label") ?? "line between the two images",
    });
    this.#frame = make("div", { class: "frame" }, this.#layers[1], this.#layers[0], this.#line);
    this.#label = make("output", { class: "zoom" });
    const button = (text, label, act) => {
      const made = make("button", { type: "button", "aria-label": label, title: label }, text);
      made.addEventListener("click", act);
      return made;
    };
    const tools = make("div", { class: "tools" },
      button("−", "zoom out", () => this.#zoomTo(this.#zoom / 1.5)),
      button("+", "zoom in", () => this.#zoomTo(this.#zoom * 1.5)),
      button("Fit", "show the whole image", () => this.#zoomTo(1)),
      button("1:1", "one pixel of the larger image on one pixel of the screen", () => this.#zoomTo(this.#oneToOne())),
      this.#label);
    this.replaceChildren(this.#frame, tools);
    this.#at = clamp(Number(this.getAttribute("at") ?? 50), 0, 100);
    this.#zoom = clamp(Number(this.getAttribute("zoom") ?? 1), 1, MOST_ZOOM);
    const center = (this.getAttribute("center") ?? "").split(" ").map(Number);
    if (center.length === 2 && center.every(Number.isFinite)) [this.#x, this.#y] = center;
    this.#listen();
    if (images.length === 2) this.show(...images);
  }

  show(before, after) {
    this.#images = [before, after];
    this.#images.forEach((image, index) => {
      image.draggable = false;
      this.#layers[index].replaceChildren(image);
      image.addEventListener("load", () => this.#draw());
    });
    this.#draw();
  }

  get at() { return this.#at; }
  set at(value) { this.#at = clamp(Number(value) || 0, 0, 100); this.#draw(); }
  get zoom() { return this.#zoom; }
  set zoom(value) { this.#zoomTo(Number(value) || 1); }
  get center() { return `${this.#x.toFixed(4)} ${this.#y.toFixed(4)}`; }
  set center(value) { [this.#x, this.#y] = value.split(" ").map((part) => Number(part) || 0); this.#draw(); }

  #size() { return [Math.max(0, ...this.#images.map(widthOf)), Math.max(0, ...this.#images.map(heightOf))]; }

  #oneToOne() {
    return this.#size()[0] / ((this.#frame.clientWidth || 1) * (window.devicePixelRatio || 1));
  }

  // Zooms so that the point at (x, y) of the frame, 0 to 1 each, stays where it is.
  #zoomTo(zoom, x = 0.5, y = 0.5) {
    const next = clamp(zoom, 1, MOST_ZOOM);
    this.#x += (x - 0.5) * (1 / this.#zoom - 1 / next);
    this.#y += (y - 0.5) * (1 / this.#zoom - 1 / next);
    this.#zoom = next;
    this.#draw();
  }

  #draw() {
    const [width, height] = this.#size(), half = 0.5 / this.#zoom;
    const style = this.style;
    this.#x = clamp(this.#x, half, 1 - half);
    this.#y = clamp(this.#y, half, 1 - half);
    if (width && height) {
      style.setProperty("--ratio", width / height);
      style.setProperty("--natural", `${width}px`);
    }
    style.setProperty("--at", `${this.#at}%`);
    style.setProperty("--move", `${(0.5 - this.#x * this.#zoom) * 100}%, ${(0.5 - this.#y * this.#zoom) * 100}%`);
    style.setProperty("--zoom", this.#zoom);
    this.toggleAttribute("zoomed", this.#zoom > 1);
    this.toggleAttribute("pixels", this.#zoom > 1.5 * this.#oneToOne());
    for (const image of this.#images) image.classList.toggle("full-size", widthOf(image) === width);
    this.#line.setAttribute("aria-valuenow", Math.round(this.#at));
    this.#line.setAttribute("aria-valuetext", `${Math.round(this.#at)} % of the width shows the first image`);
    this.#label.textContent = width ? `${Math.round(100 * this.#zoom / this.#oneToOne())} %` : "";
    this.dispatchEvent(new Event("view"));
  }

  #listen() {
    const frame = this.#frame;
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      frame.addEventListener(kind, (event) => {
        if (kind === "pointercancel" && this.#moved === "line") this.at = this.#atBefore; // the page is scrolled instead
        this.#pointers.delete(event.pointerId);
        this.#moved = null;
      });
    }
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      this.#zoomTo(this.#zoom * Math.exp(-event.deltaY / 300), ...this.#within(event));
    }, { passive: false });
    this.#line.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(frame);
  }

  #within(event) {
    const box = this.#frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #down(event) {
    if (event.button) return;
    this.#frame.setPointerCapture(event.pointerId);
    this.#line.focus({ preventScroll: true });
    const [x] = this.#within(event);
    const distance = Math.abs(x - this.#at / 100) * this.#frame.clientWidth;
    this.#pointers.set(event.pointerId, event);
    if (this.#pointers.size === 1) this.#atBefore = this.#at;
    else if (this.#moved === "line") this.at = this.#atBefore; // it was the first finger of two
    this.#moved = this.#pointers.size > 1 ? "zoom" : this.#zoom > 1 && distance > NEAR_PX ? "images" : "line";
    if (this.#moved === "line") this.at = 100 * x;
    event.preventDefault();
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before || !this.#moved) return;
    const box = this.#frame.getBoundingClientRect();
    if (this.#moved === "line") this.at = 100 * this.#within(event)[0];
    if (this.#moved === "images") {
      this.#x -= (event.clientX - before.clientX) / box.width / this.#zoom;
      this.#y -= (event.clientY - before.clientY) / box.height / this.#zoom;
      this.#draw();
    }
    if (this.#moved === "zoom") {
      const other = [...this.#pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
      const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY) || 1;
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.#zoomTo(this.#zoom * apart(event) / apart(before), ...this.#within(middle));
    }
    this.#pointers.set(event.pointerId, event);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const actions = {
      Home: () => { this.at = 0; }, End: () => { this.at = 100; },
      PageUp: () => { this.at += 10; }, PageDown: () => { this.at -= 10; },
      "+": () => this.#zoomTo(this.#zoom * 1.5), "=": () => this.#zoomTo(this.#zoom * 1.5),
      "-": () => this.#zoomTo(this.#zoom / 1.5), 0: () => this.#zoomTo(1), 1: () => this.#zoomTo(this.#oneToOne()),
    };
    const [x, y] = directions[event.key] ?? [0, 0];
    if (event.shiftKey && (x || y)) {
      this.#x += 0.1 * x / this.#zoom;
      this.#y += 0.1 * y / this.#zoom;
      this.#draw();
    } else if (x) this.at += x;
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  }
}

customElements.define("before-after", BeforeAfter);
