import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { guardPresses } from "./parts/presses.ts";
import { watchKeyboard } from "./layout/keyboard.ts";
import "./styles/page.css";
import { startTheme } from "./theme.ts";

startTheme();
guardPresses();
watchKeyboard();
const root = document.getElementById("root");
if (root === null) throw new Error("The page has no element #root to stand in.");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
