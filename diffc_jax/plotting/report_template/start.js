startCurves();
startExplorer();
startTable();
