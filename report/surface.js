// Lets a surface be turned by dragging or by the arrow keys. The picture that is
// there before serves those without scripts.
for (const box of document.querySelectorAll("[data-surface]")) {
  const d = JSON.parse(box.dataset.surface);
  const svg = box.querySelector("svg");
  const W = 380, H = 270;
  let turn = 35 * Math.PI / 180, lift = 30 * Math.PI / 180, from = null;

  function at(x, y, z) {
    x -= 0.5; y -= 0.5; z -= 0.5;
    const right = x * Math.cos(turn) + y * Math.sin(turn);
    const back = y * Math.cos(turn) - x * Math.sin(turn);
    return [W / 2 + 200 * right, H / 2 - 200 * (back * Math.sin(lift) + 0.75 * z * Math.cos(lift)), back];
  }
  const path = corners => "M" + corners.map(c => c[0].toFixed(1) + " " + c[1].toFixed(1)).join("L") + "Z";

  function draw() {
    const tiles = [];
    for (let j = 0; j + 1 < d.Y.length; j++) {
      for (let i = 0; i + 1 < d.X.length; i++) {
        const z = [d.Z[j][i], d.Z[j][i + 1], d.Z[j + 1][i + 1], d.Z[j + 1][i]];
        if (z.includes(null)) continue;
        const c = [at(d.X[i], d.Y[j], z[0]), at(d.X[i + 1], d.Y[j], z[1]), at(d.X[i + 1], d.Y[j + 1], z[2]), at(d.X[i], d.Y[j + 1], z[3])];
        tiles.push([(c[0][2] + c[1][2] + c[2][2] + c[3][2]) / 4, c, d.Fill[j][i]]);
      }
    }
    tiles.sort((a, b) => b[0] - a[0]);
    const floor = path([at(0, 0, 0), at(1, 0, 0), at(1, 1, 0), at(0, 1, 0)]);
    svg.innerHTML = `<path d="${floor}" fill="none" stroke="var(--muted)" stroke-width=".7"/>` +
      tiles.map(t => `<path d="${path(t[1])}" fill="${t[2]}" stroke="#000" stroke-opacity=".3" stroke-width=".3"/>`).join("");
  }
  function move(dx, dy) {
    turn += dx / 100;
    lift = Math.min(Math.PI / 2, Math.max(0, lift + dy / 100));
    requestAnimationFrame(draw);
  }
  svg.classList.add("turns");
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointerdown", e => { from = [e.clientX, e.clientY]; svg.setPointerCapture(e.pointerId); });
  svg.addEventListener("pointermove", e => { if (from) { move(e.clientX - from[0], e.clientY - from[1]); from = [e.clientX, e.clientY]; } });
  svg.addEventListener("pointerup", () => { from = null; });
  svg.addEventListener("keydown", e => {
    const step = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] }[e.key];
    if (step) { move(...step); e.preventDefault(); }
  });
}
