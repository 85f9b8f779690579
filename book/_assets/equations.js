/* MathJax takes the page for a second: it begins when the widgets have been drawn. */
window.MathJax = {
  ...window.MathJax,
  startup: {
    async pageReady() {
      // By then all scripts of the page have run, widgets.js among them where there are widgets.
      if (document.readyState !== "complete") {
        await new Promise((done) => addEventListener("load", done));
      }
      if (window.widgetsRendered) {
        await window.widgetsRendered;
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      }
      return window.MathJax.startup.defaultPageReady();
    },
  },
};
