// The previews of a training run: those of any two updates on top of each other.
const previews = JSON.parse(document.getElementById("data").textContent);
const slider = document.querySelector("before-after");
const [left, right] = ["left", "right"].map((id) => document.getElementById(id));

function imageOf(index) {
  const image = new Image();
  image.src = previews[index].src;
  image.alt = previews[index].name;
  return image;
}

if (slider) {
  for (const [select, chosen] of [[left, 0], [right, previews.length - 1]]) {
    previews.forEach(({ name }, index) => select.add(new Option(name, index, index === chosen, index === chosen)));
    select.addEventListener("change", () => slider.show(imageOf(left.value), imageOf(right.value)));
  }
  slider.show(imageOf(left.value), imageOf(right.value));
}
