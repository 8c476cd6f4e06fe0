// On a phone the menu is one line: the page that is open is in sight.
const openPage = document.querySelector(".side nav [aria-current]");
const menuLine = openPage?.closest("nav");
if (menuLine && menuLine.scrollWidth > menuLine.clientWidth) {
  menuLine.scrollLeft = openPage.offsetLeft - (menuLine.clientWidth - openPage.offsetWidth) / 2;
}

// A menu closes like every menu: by Escape, and by a click elsewhere.
const openMenus = () => document.querySelectorAll("details.menu[open]");
document.addEventListener("click", (event) => openMenus().forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; }));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) {
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    menu.open = false;
  }
});
