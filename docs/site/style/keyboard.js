// What is wider than its place scrolls by itself, and has to take the keyboard; captions of the sidebar are headings.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("pre, .table-wrapper").forEach(box => { box.tabIndex = 0; });
  document.querySelectorAll(".caption[role=heading]").forEach(words => { words.ariaLevel = 2; });
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Documents");
});
