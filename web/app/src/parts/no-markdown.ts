/** In the place of the form's Markdown: what it is given, as it is. */

import type { ReactNode } from "react";

export function Markdown({ children }: { children?: ReactNode }): ReactNode {
  return children;
}
