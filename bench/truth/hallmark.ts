/**
 * Genes that interferon turns on: HALLMARK_INTERFERON_ALPHA_RESPONSE of the Molecular Signatures Database, 97 genes.
 *
 * Liberzon, Birger, Thorvaldsdottir, Ghandi, Mesirov and Tamayo 2015, "The Molecular Signatures Database Hallmark Gene Set Collection", Cell Systems 1:417;
 * Subramanian et al. 2005, PNAS 102:15545. Taken from the collection's h.all.symbols.gmt as oganm/MSigDB holds it (data-raw, commit fafbc785); MSigDB is
 * licensed CC BY 4.0. The symbols are of 2015; those that have changed since stand in `RENAMED`.
 */
export const INTERFERON_ALPHA: readonly string[] = [
  ...["MX1", "ISG15", "OAS1", "IFIT3", "IFI44", "IFI35", "IRF7", "RSAD2", "IFI44L", "IFITM1", "IFI27", "IRF9", "OASL", "EIF2AK2", "IFIT2"],
  ...["CXCL10", "TAP1", "SP110", "DDX60", "UBE2L6", "USP18", "PSMB8", "IFIH1", "BST2", "LGALS3BP", "ADAR", "ISG20", "GBP2", "IRF1"],
  ...["PLSCR1", "PSMB9", "HERC6", "SAMD9", "CMPK2", "IFITM3", "RTP4", "STAT2", "SAMD9L", "LY6E", "IFITM2", "PRIC285", "CXCL11", "TRIM21"],
  ...["PARP14", "TRIM26", "PARP12", "NMI", "RNF31", "HLA-C", "CASP1", "TRIM14", "TDRD7", "DHX58", "PARP9", "PNPT1", "TRIM25", "PSME1"],
  ...["WARS", "EPSTI1", "UBA7", "PSME2", "B2M", "TRIM5", "C1S", "LAP3", "LAMP3", "GBP4", "NCOA7", "TMEM140", "CD74", "GMPR", "PSMA3"],
  ...["PROCR", "IL7", "IFI30", "IRF2", "CSF1", "IL15", "CNP", "FAM46A", "IL4R", "FTSJD2", "CD47", "LPAR6", "MOV10", "CASP8", "TXNIP"],
  ...["SLC25A28", "SELL", "TRAFD1", "BATF2", "RIPK2", "CCRL2", "NUB1", "OGFR", "FAM125A", "ELF1"],
];

/** Symbols of 2015 and what the genes are called now (HGNC). */
export const RENAMED: ReadonlyMap<string, string> = new Map([
  ["PRIC285", "HELZ2"],
  ["FAM46A", "TENT5A"],
  ["FTSJD2", "CMTR1"],
  ["FAM125A", "MVB12A"],
  ["WARS", "WARS1"],
]);

/** Those that the question names. IFIT1 and STAT1 are not in the set: they are in its sister, the response to interferon gamma. */
export const NAMED: readonly string[] = ["ISG15", "IFIT1", "IFIT2", "IFIT3", "MX1", "STAT1", "IRF7"];
