/** How typedoc reads our source: what op() and door() make are functions, and arguments that are taken apart are called options. */

import { Converter, ParameterReflection, ReflectionFlag, ReflectionKind } from "typedoc";

/** (...args: [x: Tensor, axis?: number]) as (x: Tensor, axis?: number): what TypeScript means by it. */
function spread(signature) {
  const [args, ...others] = signature.parameters ?? [];
  if (!args?.flags.isRest || others.length > 0 || args.type?.type !== "tuple") return;
  signature.parameters = args.type.elements.map((element) => {
    const parameter = new ParameterReflection(element.name ?? "options", ReflectionKind.Parameter, signature);
    parameter.type = element.element ?? element.elementType ?? element;
    parameter.setFlag(ReflectionFlag.Optional, element.isOptional ?? element.type === "optional");
    signature.project.registerReflection(parameter, undefined, undefined);
    return parameter;
  });
}

export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const signature of project.getReflectionsByKind(ReflectionKind.CallSignature)) spread(signature);
    for (const made of project.getReflectionsByKind(ReflectionKind.Variable)) {
      const signatures = made.type?.type === "reflection" ? made.type.declaration.signatures : undefined;
      if (!signatures) continue;
      made.kind = ReflectionKind.Function;
      made.signatures = signatures;
      for (const signature of signatures) {
        signature.parent = made;
        signature.name = made.name;
        signature.comment ??= made.comment?.clone();
      }
      made.comment = undefined;
      made.type = undefined;
      made.defaultValue = undefined;
      made.setFlag(ReflectionFlag.Const, false);
    }
  });
  // only now: until its comments are read, such an argument is known by that name
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    for (const parameter of project.getReflectionsByKind(ReflectionKind.Parameter))
      if (parameter.name === "__namedParameters") parameter.name = "options";
  });
}
