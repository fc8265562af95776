/** The coordinates of a lane along five axes, for kernels that walk strides. */

/** WGSL: c0 ... c4 of element i of a tensor whose last four axes have sizes n1 ... n4. */
export const coordinates = /* wgsl */ `
  var r = i;
  let c4 = r % p.n4; r /= p.n4;
  let c3 = r % p.n3; r /= p.n3;
  let c2 = r % p.n2; r /= p.n2;
  let c1 = r % p.n1; let c0 = r / p.n1;`;
