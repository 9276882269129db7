export * from "echarts/core";
import * as core from "echarts/core";
import {LineChart, BarChart, ScatterChart, HeatmapChart, BoxplotChart, CustomChart} from "echarts/charts";
import {GridComponent, TooltipComponent, LegendComponent, DataZoomComponent, VisualMapComponent, MarkAreaComponent, MarkLineComponent, AriaComponent} from "echarts/components";
import {CanvasRenderer} from "echarts/renderers";
core.use([LineChart, BarChart, ScatterChart, HeatmapChart, BoxplotChart, CustomChart, GridComponent, TooltipComponent, LegendComponent, DataZoomComponent, VisualMapComponent, MarkAreaComponent, MarkLineComponent, AriaComponent, CanvasRenderer]);
