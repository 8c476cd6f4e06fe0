// On a phone the menu is one line: the page that is open is in sight.
const openPage = document.querySelector(".side nav [aria-current]");
const menuLine = openPage?.closest("nav");
if (menuLine && menuLine.scrollWidth > menuLine.clientWidth) {
  menuLine.scrollLeft = openPage.offsetLeft - (menuLine.clientWidth - openPage.offsetWidth) / 2;
}
