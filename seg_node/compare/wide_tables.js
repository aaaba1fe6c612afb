// Say it where a table goes on beyond the edge: on a telephone nothing else shows it.
const mark = () => document.querySelectorAll(".scroll").forEach(box =>
  box.classList.toggle("wider", box.firstElementChild.scrollWidth > box.clientWidth + 1));
addEventListener("resize", mark);
mark();
